-- What a reader has not seen of a flat index: {header, records}. Both are empty where there is no index.
-- KEYS[1] index
-- ARGV[1] header that the reader knows   ARGV[2] bytes that it has read   ARGV[3] length of a header
local header = redis.call('GETRANGE', KEYS[1], 0, ARGV[3] - 1)
local from = ARGV[3]
if header == ARGV[1] then
  from = ARGV[2]
end
return {header, redis.call('GETRANGE', KEYS[1], from, -1)}
