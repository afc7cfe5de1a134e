-- Counts a hit on an entry that still exists; a gone one is not brought back.
-- A question that is asked often must not be evicted while its answer stays.
-- KEYS[1] metadata   KEYS[2] embedding   KEYS[3] of a semantic hit: the entries that were served so
-- ARGV[1] now, Unix seconds   of a semantic hit: ARGV[2] entry   ARGV[3] how many entries are kept
-- ARGV[4] lifetime, ms   ARGV[5...] names and values of further fields of the metadata
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'hit_count', 1)
  redis.call('HSET', KEYS[1], 'last_accessed', ARGV[1], unpack(ARGV, 5))
  if KEYS[3] then
    redis.call('ZADD', KEYS[3], ARGV[1], ARGV[2])
    redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[3])
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
  end
end
return redis.call('TOUCH', KEYS[2])
