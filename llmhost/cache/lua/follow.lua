-- Marks a flight, so that its leader sees that one more process follows it. What no leader wrote is removed: a value of
-- another type, or one that lives longer than a lease.
-- KEYS[1] flight
-- ARGV[1] the mark: one character   ARGV[2] the longest time that a lease has, milliseconds
-- Returns the milliseconds that its lease still has; negative where it has ended.
local left = redis.call('PTTL', KEYS[1])
if left == -2 then
  return left
end
local value = redis.pcall('GET', KEYS[1])
local is_other = type(value) == 'table' and value.err and string.find(value.err, 'WRONGTYPE')
if is_other or left == -1 or left > tonumber(ARGV[2]) then
  redis.call('UNLINK', KEYS[1])
  return -2
end
redis.call('APPEND', KEYS[1], ARGV[1])  -- the time to live stays
return left
