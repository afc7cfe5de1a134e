-- Counts a hit on an entry that still exists; a gone one is not brought back.
-- A question that is asked often must not be evicted while its answer stays.
-- KEYS[1] metadata   KEYS[2] embedding
-- ARGV[1] now, Unix seconds   ARGV[2...] names and values of further fields of the metadata
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'hit_count', 1)
  redis.call('HSET', KEYS[1], 'last_accessed', unpack(ARGV))
end
return redis.call('TOUCH', KEYS[2])
