-- Remembers how an entry came to be served to another wording; a gone entry is not brought back.
-- KEYS[1] embedding   KEYS[2] the entries that were served so
-- ARGV[1] now, Unix seconds   ARGV[2] entry   ARGV[3] how many entries are kept   ARGV[4] lifetime, ms
-- ARGV[5...] names and values of fields of it
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 5))
  redis.call('ZADD', KEYS[2], ARGV[1], ARGV[2])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
