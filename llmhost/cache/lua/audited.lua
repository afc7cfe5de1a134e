-- Counts what an audit found about an entry that still exists; a gone one is not brought back.
-- KEYS[1] embedding   ARGV[1] the field that is counted up
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
end
return 0
