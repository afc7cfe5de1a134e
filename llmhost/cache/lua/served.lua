-- Remembers how an entry came to be served to another wording; a gone entry is not brought back: 1 where it is there.
-- KEYS[1] response   KEYS[2] metadata
-- ARGV[1] lifetime, ms   ARGV[2...] names and values of fields of the metadata
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
