-- Keeps a lease for longer, unless another holder has taken it since.
-- KEYS[1] the lease (fields of a hash)
-- ARGV[1] its holder   ARGV[2] the holder's fence   ARGV[3] for how long, seconds
-- Returns 1, or 0 where it is lost
local held = redis.call('HMGET', KEYS[1], 'lock:holder', 'lock:fence')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lock:until', string.format('%.6f', time[1] + time[2] / 1000000 + ARGV[3]))
return 1
