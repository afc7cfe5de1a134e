-- Takes a slot on one of the workers that are not draining, by the rule of engines/routing.py, and counts the
-- question.
-- Returns the worker's place, counted from 1, and how many questions it has now; place 0: all are draining;
-- place -1: it has to wait, as one of so many.
-- One script, so that two concurrent questions see each other, and none gets a worker that drains.
-- KEYS[1] the fleet's traffic   KEYS[2] the set of draining workers
-- KEYS[3] the requests that wait: a sorted set, scored as those in flight
-- KEYS[n + 3] worker n's requests in flight: a sorted set, scored by when each counts as dead, Unix seconds
-- ARGV[1], ARGV[2] as in counting.lua   ARGV[3] the request's id   ARGV[4] its lifetime, whole seconds
-- ARGV[5] 1: the question was counted already   ARGV[6] slots of a worker   ARGV[7] routing.SPREAD where it
-- belongs to a conversation, which prefers the workers in this order; else empty
-- ARGV[8] for how many seconds it may wait, empty where it does not   ARGV[n + 8] worker n's id
local request, slots, queues = ARGV[3], tonumber(ARGV[6]), ARGV[8] ~= ''
if ARGV[5] ~= '1' then
  count_question(KEYS[1])
end
-- The number of the question that a worker was asked last. Damaged ones must not keep a question from its worker.
local function turn(worker)
  return tonumber(redis.pcall('HGET', KEYS[1], 'turn:' .. worker)) or 0
end
local loads, places, total = {}, {}, 0
for place = 1, #KEYS - 3 do
  if redis.call('SISMEMBER', KEYS[2], ARGV[place + 8]) == 0 then
    local key = KEYS[place + 3]
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    loads[place] = redis.call('ZCARD', key)
    places[#places + 1], total = place, total + loads[place]
  end
end
local bound = math.huge
if ARGV[7] ~= '' then
  bound = math.max(slots, math.ceil(tonumber(ARGV[7]) * (total + 1) / #places))
end
local best, longest
local function look()
  for _, place in ipairs(places) do
    local load = loads[place]
    if load < bound and (load < slots or not queues) then
      if ARGV[7] ~= '' then
        best = place
        return
      end
      if not best or load <= loads[best] then
        local last = turn(ARGV[place + 8])
        if not best or load < loads[best] or last < longest then
          best, longest = place, last
        end
      end
    end
  end
end
if queues then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  if redis.call('ZCARD', KEYS[3]) == 0 or redis.call('ZSCORE', KEYS[3], request) then
    look()
  end
else
  look()
end
if not best then
  if not queues or (#places == 0 and #KEYS > 3) then
    return {0, 0}
  end
  redis.call('ZADD', KEYS[3], now + ARGV[8], request)
  return {-1, redis.call('ZCARD', KEYS[3])}
end
if queues then
  redis.call('ZREM', KEYS[3], request)
end
local number = redis.pcall('HINCRBY', KEYS[1], 'turns', 1)
if type(number) == 'number' then
  redis.call('HSET', KEYS[1], 'turn:' .. ARGV[best + 8], number)
end
redis.call('ZADD', KEYS[best + 3], now + ARGV[4], request)
return {best, loads[best] + 1}
