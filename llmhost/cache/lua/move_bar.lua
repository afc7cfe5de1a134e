-- Moves the threshold, unless something was counted or it was moved since the caller read it; returns whether it did.
-- KEYS[1] trust
-- ARGV[1...3] raised, right, wrong, as the caller has seen them   ARGV[4] raised from now on
-- ARGV[5] now, Unix seconds
local seen = redis.call('HMGET', KEYS[1], 'raised', 'since:right', 'since:wrong')
for place = 1, 3 do
  if (seen[place] or '0') ~= ARGV[place] then
    return 0
  end
end
redis.call('HSET', KEYS[1], 'raised', ARGV[4], 'changed', ARGV[5])
redis.call('HDEL', KEYS[1], 'since:right', 'since:wrong')
return 1
