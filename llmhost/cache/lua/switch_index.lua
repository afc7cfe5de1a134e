-- Puts the index that was built in force; 0 where another one is being built by now.
-- KEYS[1] layout   ARGV[1] the kind that was built
if redis.call('HGET', KEYS[1], 'building') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'index', ARGV[1])
redis.call('HDEL', KEYS[1], 'building')
return 1
