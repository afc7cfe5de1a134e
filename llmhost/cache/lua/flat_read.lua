-- What a reader has not seen of a flat index: {header, records}. Both are empty where there is no index.
-- KEYS[1] log   KEYS[2] the log of an older llmhost, read where there is no other
-- ARGV[1] header that the reader knows   ARGV[2] bytes that it has read   ARGV[3] length of a header
local log = KEYS[1]
local header = redis.call('GETRANGE', log, 0, ARGV[3] - 1)
if header == '' then
  log = KEYS[2]
  header = redis.call('GETRANGE', log, 0, ARGV[3] - 1)
end
local from = ARGV[3]
if header == ARGV[1] then
  from = ARGV[2]
end
return {header, redis.call('GETRANGE', log, from, -1)}
