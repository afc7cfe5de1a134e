-- Appends records to a flat index, making it where there is none.
-- KEYS[1] index
-- ARGV[1] header for a new index   ARGV[2] records   ARGV[3] lifetime in milliseconds
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
end
redis.call('APPEND', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
