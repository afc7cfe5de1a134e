-- Gives a slot back and counts what its answer took; returns 1, or 0 where the slot was gone already.
-- KEYS[1] the worker's requests in flight   KEYS[2] the fleet's traffic   KEYS[3] the worker's speed, a hash
-- KEYS[4] the speed of all workers with its GPU, a hash; it may be left out
-- ARGV[1], ARGV[2] as in counting.lua   ARGV[3] the request's id   ARGV[4] tokens of the answer, empty where
-- there was no whole one   ARGV[5] seconds that it took   ARGV[6] how many questions the worker had with this
-- one, empty where this one had to wait for a place: then it measures the queue and not the worker
local KEEP = 0.95  -- weight of earlier answers with each further one: about the last 20 count

local function add(what, amount)
  local field = what .. ':' .. ARGV[6]
  for place = 3, #KEYS do
    local sum = tonumber(redis.call('HGET', KEYS[place], field)) or 0
    if not (sum >= 0 and sum < math.huge) then
      sum = 0  -- it is damaged
    end
    redis.call('HSET', KEYS[place], field, sum * KEEP + amount)
  end
end

if redis.call('ZREM', KEYS[1], ARGV[3]) == 0 then
  return 0
end
if ARGV[4] == '' then
  return 1
end
count(KEYS[2], 'answered', 1)
count(KEYS[2], 'tokens', ARGV[4])
redis.call('HSET', KEYS[3], 'at', now)
if ARGV[6] ~= '' then
  add('answers', 1)
  add('tokens', ARGV[4])
  add('seconds', ARGV[5])
end
return 1
