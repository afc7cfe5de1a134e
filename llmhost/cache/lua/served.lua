-- Remembers how an entry came to be served to another wording; a gone entry is not brought back.
-- KEYS[1] response   KEYS[2] metadata   KEYS[3] the entries that were served so
-- ARGV[1] now, Unix seconds   ARGV[2] entry   ARGV[3] how many entries are kept   ARGV[4] lifetime, ms
-- ARGV[5...] names and values of fields of the metadata
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[2], unpack(ARGV, 5))
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  redis.call('ZADD', KEYS[3], ARGV[1], ARGV[2])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
