-- Lets go of a lease, if it is still the holder's. The fence stays, so that it can grow.
-- KEYS[1] the lease (fields of a hash)
-- ARGV[1] its holder   ARGV[2] the holder's fence; empty where the holder was not told it
local held = redis.call('HMGET', KEYS[1], 'lock:holder', 'lock:fence')
if held[1] == ARGV[1] and (held[2] == ARGV[2] or ARGV[2] == '') then
  redis.call('HDEL', KEYS[1], 'lock:holder', 'lock:until')
end
return 1
