-- Takes a slot on the least loaded worker that is not draining, of several the one that was asked longest
-- ago, and counts the question.
-- Returns the worker's place, counted from 1, and how many questions it has now; place 0: all are draining.
-- One script, so that two concurrent questions see each other, and none gets a worker that drains.
-- KEYS[1] the fleet's traffic   KEYS[2] the set of draining workers
-- KEYS[n + 2] worker n's requests in flight: a sorted set, scored by when each counts as dead, Unix seconds
-- ARGV[1], ARGV[2] as in counting.lua   ARGV[3] the request's id   ARGV[4] its lifetime, whole seconds
-- ARGV[5] 1: the question was counted when another worker was asked   ARGV[n + 5] worker n's id
if ARGV[5] ~= '1' then
  count_question(KEYS[1])
end
-- The number of the question that a worker was asked last. Damaged ones must not keep a question from its worker.
local function turn(worker)
  return tonumber(redis.pcall('HGET', KEYS[1], 'turn:' .. worker)) or 0
end
local best, least, longest = 0, nil, 0
for place = 1, #KEYS - 2 do
  local key = KEYS[place + 2]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local load = redis.call('ZCARD', key)
  if (not least or load <= least) and redis.call('SISMEMBER', KEYS[2], ARGV[place + 5]) == 0 then
    local last = turn(ARGV[place + 5])
    if not least or load < least or last < longest then
      best, least, longest = place, load, last
    end
  end
end
if best == 0 then
  return {0, 0}
end
local number = redis.pcall('HINCRBY', KEYS[1], 'turns', 1)
if type(number) == 'number' then
  redis.call('HSET', KEYS[1], 'turn:' .. ARGV[best + 5], number)
end
redis.call('ZADD', KEYS[best + 2], now + ARGV[4], ARGV[3])
return {best, least + 1}
