-- Takes a slot on one of the workers that are not draining, by the rule of engines/routing.py, and counts the
-- question.
-- Returns the worker's place, counted from 1, and how many questions it has now; place 0: all are draining;
-- place -1: it has to wait, as one of so many.
-- One script, so that two concurrent questions see each other, and none gets a worker that drains.
-- KEYS[1] the fleet's traffic   KEYS[2] the set of draining workers
-- KEYS[3] the requests that wait: a sorted set, scored as those in flight
-- KEYS[4] those of them that are at the front of their process: a hash of "since when:last seen", Unix seconds
-- KEYS[n + 4] worker n's requests in flight: a sorted set, scored by when each counts as dead, Unix seconds; an id
-- ends with the tokens that its request may read and write
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
local function outstanding(key)
  local sum = 0
  for _, other in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    sum = sum + (tonumber(string.match(other, ':(%d+)$')) or 0)
  end
  return sum
end
local FRONT = 1  -- seconds; who is at the front asks ten times as often: else its process is dead
local loads, places, total, free = {}, {}, 0, 0
for place = 1, #KEYS - 4 do
  if redis.call('SISMEMBER', KEYS[2], ARGV[place + 8]) == 0 then
    local key = KEYS[place + 4]
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    loads[place] = redis.call('ZCARD', key)
    places[#places + 1], total = place, total + loads[place]
    free = free + math.max(0, slots - loads[place])
  end
end
local bound = math.huge
if ARGV[7] ~= '' then
  bound = math.max(slots, math.ceil(tonumber(ARGV[7]) * (total + 1) / #places))
end
local best, fewest, longest
local function look()
  for _, place in ipairs(places) do
    local load = loads[place]
    if load < bound and (load < slots or not queues) then
      if ARGV[7] ~= '' then
        best = place
        return
      end
      local tokens = outstanding(KEYS[place + 4])
      if not best or tokens < fewest or (tokens == fewest and load <= loads[best]) then
        local last = turn(ARGV[place + 8])
        if not best or tokens < fewest or load < loads[best] or last < longest then
          best, fewest, longest = place, tokens, last
        end
      end
    end
  end
end
-- Whether its turn has come: the fronts of all processes take the free slots in the order in which they came.
local function has_turn()
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  if redis.call('ZCARD', KEYS[3]) == 0 then
    return true
  end
  if not redis.call('ZSCORE', KEYS[3], request) then
    return false
  end
  local since, before, fronts = now, 0, redis.call('HGETALL', KEYS[4])
  for n = 1, #fronts, 2 do
    local began, seen = string.match(fronts[n + 1], '^([%d.]+):([%d.]+)$')
    if fronts[n] == request then
      since = tonumber(began) or now
    elseif not began or tonumber(seen) < now - FRONT then
      redis.call('HDEL', KEYS[4], fronts[n])
    end
  end
  redis.call('HSET', KEYS[4], request, string.format('%.6f:%.6f', since, now))
  for n = 1, #fronts, 2 do
    local began, seen = string.match(fronts[n + 1], '^([%d.]+):([%d.]+)$')
    if fronts[n] ~= request and began and tonumber(seen) >= now - FRONT and tonumber(began) < since then
      before = before + 1
    end
  end
  return before < free
end
if not queues or has_turn() then
  look()
end
if not best then
  if not queues or (#places == 0 and #KEYS > 4) then
    return {0, 0}
  end
  redis.call('ZADD', KEYS[3], now + ARGV[8], request)
  return {-1, redis.call('ZCARD', KEYS[3])}
end
if queues then
  redis.call('ZREM', KEYS[3], request)
  redis.call('HDEL', KEYS[4], request)
end
local number = redis.pcall('HINCRBY', KEYS[1], 'turns', 1)
if type(number) == 'number' then
  redis.call('HSET', KEYS[1], 'turn:' .. ARGV[best + 8], number)
end
redis.call('ZADD', KEYS[best + 4], now + ARGV[4], request)
return {best, loads[best] + 1}
