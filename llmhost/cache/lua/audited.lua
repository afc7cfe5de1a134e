-- Counts what an audit found about an entry that still exists; a gone one is not brought back.
-- KEYS[1] response   KEYS[2] metadata   ARGV[1] the field that is counted up   ARGV[2] lifetime in milliseconds
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return 1
end
return 0
