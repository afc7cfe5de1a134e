-- Appends records to a flat index, making it where there is none: its new length, or 0 where it is not the one that
-- the caller knows.
-- KEYS[1] log
-- ARGV[1] the header that the caller knows, empty for none   ARGV[2] header for a new log   ARGV[3] records
-- ARGV[4] lifetime in milliseconds
local header = redis.call('GETRANGE', KEYS[1], 0, #ARGV[2] - 1)
if header ~= ARGV[1] then
  return 0
end
local length = redis.call('STRLEN', KEYS[1])
if length == 0 then
  redis.call('SET', KEYS[1], ARGV[2] .. ARGV[3])
elseif length < 32768 then  -- in one piece: a string that grows is given twice its room
  redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) .. ARGV[3])
else
  redis.call('APPEND', KEYS[1], ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return redis.call('STRLEN', KEYS[1])
