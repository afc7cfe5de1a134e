-- Lets go of a flight, if it is still ours, and tells the processes that follow it.
-- KEYS[1] flight; the channel has the same name
-- ARGV[1] our token   ARGV[2] the last message
local value = redis.call('GET', KEYS[1])
if value and string.sub(value, 1, #ARGV[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.pcall('PUBLISH', KEYS[1], ARGV[2])  -- a server that forbids it: the others wait for the lease to end
  return 1
end
return 0
