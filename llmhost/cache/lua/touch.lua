-- Counts hits on entries that still exist; a gone one is not brought back. What lies there and is no count is removed.
-- KEYS of each entry: response, metadata
-- ARGV[1] lifetime of the counts in milliseconds   ARGV of each entry: hits, when the last one was, Unix seconds
for at = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[at]) == 1 then
    local counts = KEYS[at + 1]
    local count = redis.pcall('HINCRBY', counts, 'hit_count', ARGV[at + 1])
    if type(count) == 'table' and (string.find(count.err, 'WRONGTYPE') or string.find(count.err, 'integer')) then
      redis.call('UNLINK', counts)
      count = redis.pcall('HINCRBY', counts, 'hit_count', ARGV[at + 1])
    end
    if type(count) == 'table' then
      return count
    end
    redis.call('HSET', counts, 'last_accessed', ARGV[at + 2])
    redis.call('PEXPIRE', counts, ARGV[1])
  end
end
