-- Counts what was used with an API key on the day (UTC) that it is by the clock of Redis, and ends holds.
-- KEYS[1] the key, see admit.lua   ARGV[1] requests   ARGV[2] tokens   ARGV[3] USD   ARGV[4…] ids of holds
local LATE = 60  -- seconds; by then a hold has come whose end was sooner here
local COUNTERS = {'requests', 'tokens', 'usd'}
local ENDED = ' 0 0'  -- how such a hold ends, see hold.lua: it holds nothing
local key, now = KEYS[1], tonumber(redis.call('TIME')[1])
if redis.call('HEXISTS', key, 'digest') == 0 then
  return 0  -- revoked
end
local today = math.floor(now / 86400)
if tonumber(redis.call('HGET', key, 'day') or '') ~= today then
  redis.call('HSET', key, 'day', today, 'requests', 0, 'tokens', 0, 'usd', 0)
end
local before = redis.call('HMGET', key, unpack(COUNTERS))
for n, name in ipairs(COUNTERS) do
  local counted = redis.pcall(n == 3 and 'HINCRBYFLOAT' or 'HINCRBY', key, name, ARGV[n])
  if type(counted) == 'table' and counted.err then
    -- It is damaged. Nothing stays counted: the caller writes all of it again.
    for earlier = 1, n - 1 do
      redis.call('HSET', key, COUNTERS[earlier], before[earlier] or '0')
    end
    return counted
  end
end
for n = 4, #ARGV do
  local name = 'hold:' .. ARGV[n]
  local held = redis.call('HGET', key, name)
  if held and string.sub(held, -#ENDED) ~= ENDED then
    redis.call('HDEL', key, name)
  else
    redis.call('HSET', key, name, string.format('%d %d', now, now + LATE) .. ENDED)
  end
end
return 1
