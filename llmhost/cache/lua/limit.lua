-- Notes an entry that was stored, and names those that are too many: what was used the longest time ago goes first.
-- KEYS[1] the entries by their last use   KEYS[2] what was stored lately, to know how large an entry is
-- ARGV[1] entry   ARGV[2] now, Unix seconds   ARGV[3] its bytes   ARGV[4] most entries, 0 for any number
-- ARGV[5] most bytes, 0 for any number   ARGV[6] most entries named at once   ARGV[7] longest lifetime of an answer, seconds
local now = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[7])  -- an answer that was last used then has expired
local count = redis.call('HINCRBY', KEYS[2], 'entries', 1)
local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', ARGV[3])
if count >= 1000 then  -- what was stored long ago counts for less
  redis.call('HSET', KEYS[2], 'entries', math.floor(count / 2), 'bytes', math.floor(bytes / 2))
end
redis.call('PEXPIRE', KEYS[1], 1000 * ARGV[7])
redis.call('PEXPIRE', KEYS[2], 1000 * ARGV[7])
local most = tonumber(ARGV[4])
if ARGV[5] ~= '0' then
  local fit = math.max(1, math.floor(ARGV[5] * count / bytes))
  most = most == 0 and fit or math.min(most, fit)
end
local too_many = redis.call('ZCARD', KEYS[1]) - most
if most == 0 or too_many <= 0 then
  return {}
end
local gone = redis.call('ZRANGE', KEYS[1], 0, math.min(too_many, ARGV[6]) - 1)
redis.call('ZREM', KEYS[1], unpack(gone))
return gone
