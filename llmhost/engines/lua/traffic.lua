-- Reads a fleet's traffic; returns the time, the traffic's fields, the draining workers, how many requests wait
-- for a slot, and for each worker asked for its questions in flight and the fields of its speed.
-- KEYS[1] the fleet's traffic   KEYS[2] the set of draining workers   KEYS[3] the requests that wait
-- KEYS[2n + 2] worker n's requests in flight   KEYS[2n + 3] worker n's speed, a hash
-- ARGV[1], ARGV[2] as in counting.lua
begin(KEYS[1])
trim(KEYS[1])
local workers = {}
for place = 4, #KEYS, 2 do
  redis.call('ZREMRANGEBYSCORE', KEYS[place], '-inf', now)
  workers[#workers + 1] = {redis.call('ZCARD', KEYS[place]), redis.call('HGETALL', KEYS[place + 1])}
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local waiting = redis.call('ZCARD', KEYS[3])
local shown = string.format('%.6f', now)
return {shown, redis.call('HGETALL', KEYS[1]), redis.call('SMEMBERS', KEYS[2]), waiting, workers}
