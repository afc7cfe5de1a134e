-- Counts hits on entries that still exist; a gone one is not brought back.
-- KEYS the embedding of each entry   ARGV of each entry: hits, when the last one was, Unix seconds
for at = 1, #KEYS do
  if redis.call('EXISTS', KEYS[at]) == 1 then
    redis.call('HINCRBY', KEYS[at], 'hit_count', ARGV[2 * at - 1])
    redis.call('HSET', KEYS[at], 'last_accessed', ARGV[2 * at])
  end
end
