-- Notes how long a worker took to its first answer. A worker boots once.
-- KEYS    the boots (list of JSON, newest last)
-- ARGV    the worker, its seconds, how many boots are kept
local boots, worker = KEYS[1], ARGV[1]
for _, raw in ipairs(redis.call('LRANGE', boots, 0, -1)) do
  local sound, boot = pcall(cjson.decode, raw)
  if sound and type(boot) == 'table' and boot.worker == worker then
    return 0
  end
end
redis.call('RPUSH', boots, string.format('{"worker": %s, "seconds": %s, "at": %s}',
  cjson.encode(worker), ARGV[2], redis.call('TIME')[1]))
redis.call('LTRIM', boots, -ARGV[3], -1)
return 1
