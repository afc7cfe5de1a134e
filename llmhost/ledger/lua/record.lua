-- Adds one event to the sums of its minute, hour and day, and drops periods whose time is over.
-- The sums carry no lifetime, so that a full Redis never evicts them: the book says how long each is kept.
-- KEYS    one hash for each period, then the book of all of them (sorted set, by the second they end)
-- ARGV    now in seconds, the second until which each period is kept, then pairs of field and increment
local book = KEYS[#KEYS]
-- A machine whose clock is ahead must not end everybody's periods.
local now = math.min(tonumber(ARGV[1]), tonumber(redis.call('TIME')[1]) + 60)
for number = 1, #KEYS - 1 do
  if redis.call('EXISTS', KEYS[number]) == 0 then
    for _, over in ipairs(redis.call('ZRANGEBYSCORE', book, '-inf', now)) do
      redis.call('DEL', over)
      redis.call('ZREM', book, over)
    end
    redis.call('ZADD', book, ARGV[number + 1], KEYS[number])
  end
  for at = #KEYS + 1, #ARGV, 2 do
    redis.call('HINCRBYFLOAT', KEYS[number], ARGV[at], ARGV[at + 1])
  end
end
return 1
