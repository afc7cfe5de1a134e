-- Tells the processes that follow a flight what came since, if it is still ours.
-- KEYS[1] flight; the channel has the same name
-- ARGV[1] our token   ARGV[2] the message
-- Returns how many processes listen, and how many have ever followed it.
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, #ARGV[1]) ~= ARGV[1] then
  return {0, 0}
end
local listening = redis.pcall('PUBLISH', KEYS[1], ARGV[2])
if type(listening) ~= 'number' then
  listening = 0  -- a server that forbids it: the others wait for the lease to end
end
return {listening, #value - #ARGV[1]}
