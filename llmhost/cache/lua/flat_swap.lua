-- Replaces a log by its rewritten form; 0 where it has changed since it was read.
-- KEYS[1] the new log   KEYS[2] the log that it was made from   KEYS[3] where it belongs
-- ARGV[1] header of the log it was made from   ARGV[2] its length   ARGV[3] lifetime in milliseconds
local header = redis.call('GETRANGE', KEYS[2], 0, #ARGV[1] - 1)
if header ~= ARGV[1] or redis.call('STRLEN', KEYS[2]) ~= tonumber(ARGV[2]) then
  redis.call('UNLINK', KEYS[1])
  return 0
end
if KEYS[2] ~= KEYS[3] then
  if redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('UNLINK', KEYS[1])
    return 0
  end
  redis.call('UNLINK', KEYS[2])
end
redis.call('COPY', KEYS[1], KEYS[3], 'REPLACE')
redis.call('UNLINK', KEYS[1])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 1
