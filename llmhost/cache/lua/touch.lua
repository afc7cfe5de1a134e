-- Counts hits on entries that still exist; a gone one is not brought back.
-- KEYS of each entry: response, metadata
-- ARGV[1] lifetime of the counts in milliseconds   ARGV of each entry: hits, when the last one was, Unix seconds
for at = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[at]) == 1 then
    redis.call('HINCRBY', KEYS[at + 1], 'hit_count', ARGV[at + 1])
    redis.call('HSET', KEYS[at + 1], 'last_accessed', ARGV[at + 2])
    redis.call('PEXPIRE', KEYS[at + 1], ARGV[1])
  end
end
