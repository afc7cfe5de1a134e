-- Lets go of a flight, if it is still ours, and tells the processes that wait for it.
-- KEYS[1] flight; the channel has the same name
-- ARGV[1] our token
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.pcall('PUBLISH', KEYS[1], '')  -- a server that forbids it: the others wait for the lease to end
  return 1
end
return 0
