-- Counts what was used with an API key on the day (UTC) that it is by the clock of Redis, and ends holds.
-- KEYS[1] the key, see admit.lua   ARGV[1] requests   ARGV[2] tokens   ARGV[3] USD   ARGV[4…] ids of holds
local key = KEYS[1]
if redis.call('HEXISTS', key, 'digest') == 0 then
  return 0  -- revoked
end
local today = math.floor(tonumber(redis.call('TIME')[1]) / 86400)
if tonumber(redis.call('HGET', key, 'day') or '') ~= today then
  redis.call('HSET', key, 'day', today, 'requests', 0, 'tokens', 0, 'usd', 0)
end
redis.call('HINCRBY', key, 'requests', ARGV[1])
redis.call('HINCRBY', key, 'tokens', ARGV[2])
redis.call('HINCRBYFLOAT', key, 'usd', ARGV[3])
for n = 4, #ARGV do
  redis.call('HDEL', key, 'hold:' .. ARGV[n])
end
return 1
