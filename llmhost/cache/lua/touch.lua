-- Counts hits on entries that still exist; a gone one is not brought back.
-- A question that is asked often must not be evicted while its answer stays.
-- KEYS of each entry: metadata, embedding   ARGV of each entry: hits, when the last one was, Unix seconds
for at = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[at]) == 1 then
    redis.call('HINCRBY', KEYS[at], 'hit_count', ARGV[at])
    redis.call('HSET', KEYS[at], 'last_accessed', ARGV[at + 1])
  end
  redis.call('TOUCH', KEYS[at + 1])
end
