-- Counts a hit on an entry that still exists; a gone one is not brought back.
-- A question that is asked often must not be evicted while its answer stays.
-- KEYS[1] metadata   KEYS[2] embedding
-- ARGV[1] now, Unix seconds
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'hit_count', 1)
  redis.call('HSET', KEYS[1], 'last_accessed', ARGV[1])
end
return redis.call('TOUCH', KEYS[2])
