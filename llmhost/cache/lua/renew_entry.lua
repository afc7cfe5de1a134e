-- Rewrites an entry, unless it was replaced or has expired since it was read: 1 where it is written.
-- KEYS[1] response   KEYS[2] the question, where an older llmhost kept it
-- ARGV[1] the value that the caller has read   ARGV[2] the new one
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
redis.call('UNLINK', KEYS[2])
return 1
