-- Keeps a flight alive, if it is still ours.
-- KEYS[1] flight
-- ARGV[1] our token   ARGV[2] lifetime in milliseconds
local value = redis.call('GET', KEYS[1])
if value and string.sub(value, 1, #ARGV[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
