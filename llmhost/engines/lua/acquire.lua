-- Takes a slot on the least loaded worker; returns its place in KEYS, counted from 1.
-- One script, so that two who ask at once see each other.
-- KEYS[n] a worker's requests in flight: a sorted set, scored by when each counts as dead, Unix seconds
-- ARGV[1] the request's id   ARGV[2] a request's lifetime, whole seconds
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local best, least = 1, nil
for place, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local load = redis.call('ZCARD', key)
  if not least or load < least then
    best, least = place, load
  end
end
redis.call('ZADD', KEYS[best], now + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[best], ARGV[2])
return best
