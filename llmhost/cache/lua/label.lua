-- Counts a label: {raised, right, wrong} of the audits since the threshold last moved, missing ones as nothing.
-- Nothing where a count is damaged.
-- KEYS[1] trust
-- ARGV names of the counts that the label belongs to
for _, name in ipairs(ARGV) do
  local count = redis.call('HGET', KEYS[1], name)
  if count and not string.match(count, '^%d+$') then
    return nil
  end
end
for _, name in ipairs(ARGV) do
  redis.call('HINCRBY', KEYS[1], name, 1)
end
return redis.call('HMGET', KEYS[1], 'raised', 'since:right', 'since:wrong')
