-- Deletes a log unless it was appended to, or rewritten, since it was read: 1 where it is gone.
-- KEYS[1] log
-- ARGV[1] the header that the caller knows   ARGV[2] bytes that it has read
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] or redis.call('STRLEN', KEYS[1]) ~= tonumber(ARGV[2]) then
  return 0
end
return redis.call('UNLINK', KEYS[1])
