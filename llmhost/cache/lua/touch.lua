-- Counts a hit on an entry that still exists; a gone one is not brought back.
-- KEYS[1] metadata
-- ARGV[1] now, Unix seconds
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'hit_count', 1)
  redis.call('HSET', KEYS[1], 'last_accessed', ARGV[1])
end
return 1
