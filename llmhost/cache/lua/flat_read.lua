-- What a reader has not seen of a flat index: {header, where the records begin, records}. Header and records are empty
-- where there is no index.
-- KEYS[1] log   KEYS[2] the log of an older llmhost, read where there is no other
-- ARGV[1] header that the reader knows   ARGV[2] bytes that it has read   ARGV[3] length of a header
-- ARGV[4] the last record that it has read: where another one is there, Redis came back with an older state
local log = KEYS[1]
local header = redis.call('GETRANGE', log, 0, ARGV[3] - 1)
if header == '' then
  log = KEYS[2]
  header = redis.call('GETRANGE', log, 0, ARGV[3] - 1)
end
local from = tonumber(ARGV[3])
if header == ARGV[1] then
  local read = tonumber(ARGV[2])
  if #ARGV[4] == 0 or redis.call('GETRANGE', log, read - #ARGV[4], read - 1) == ARGV[4] then
    from = read
  end
end
return {header, from, redis.call('GETRANGE', log, from, -1)}
