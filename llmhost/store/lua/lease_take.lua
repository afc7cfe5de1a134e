-- Takes a lease that is free, that its holder has not renewed in time, or that is the taker's own.
-- The fence grows with every take, also when Redis has lost its data: it is at least the time in
-- microseconds.
-- KEYS[1] the lease (fields of a hash)
-- ARGV[1] who takes it   ARGV[2] for how long   ARGV[3] how far ahead an end may lie (both in seconds)
-- Returns the fence, or nil while another holds it
local key, taker = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local held = redis.call('HMGET', key, 'lock:holder', 'lock:until', 'lock:fence')
local ends, fence = tonumber(held[2]), tonumber(held[3])
-- An end that lies too far ahead was written before the clock was put back.
if held[1] and held[1] ~= taker and ends and ends > now and ends <= now + ARGV[3] then
  return false
end
-- Beyond 2^52 a number may not grow by 1 any more; nor is NaN between two numbers.
if not (fence and fence >= 0 and fence < 2 ^ 52) then
  fence = 0
end
fence = math.max(math.floor(fence) + 1, time[1] * 1000000 + time[2])
redis.call('HSET', key, 'lock:holder', taker, 'lock:until', string.format('%.6f', now + ARGV[2]),
  'lock:fence', string.format('%.0f', fence))
return fence
