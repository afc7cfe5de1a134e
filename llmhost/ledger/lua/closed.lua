-- Ends a worker's open rental, and drops what ended long ago. One that is closed stays as it is.
-- KEYS    the rentals (hash)
-- ARGV    the worker, when it ended, for how long an ended rental is kept (both in seconds)
-- Returns 0 where a record of this worker makes no sense, else 1
local rentals, worker = KEYS[1], ARGV[1]
-- A machine whose clock is ahead must neither charge hours that are still to come nor drop what is wanted.
local now = tonumber(redis.call('TIME')[1])
local ended = math.min(tonumber(ARGV[2]), now + 60)
local oldest = math.min(ended, now) - tonumber(ARGV[3])
local result = 1

-- Exact, which cjson.encode is not.
local function number(value)
  return string.format('%.17g', value)
end

local rows = redis.call('HGETALL', rentals)
for at = 1, #rows, 2 do
  local field = rows[at]
  local is_its = string.match(field, '^(.*)@[^@]*$') == worker
  local sound, rental = pcall(cjson.decode, rows[at + 1])
  if not sound or type(rental) ~= 'table'
      or type(rental.price_per_hour) ~= 'number' or type(rental.started) ~= 'number' then
    if is_its then
      result = 0
    end
  elseif rental.ended == cjson.null then
    if is_its then
      redis.call('HSET', rentals, field, string.format(
        '{"price_per_hour": %s, "started": %s, "ended": %s}',
        number(rental.price_per_hour), number(rental.started), number(math.max(ended, rental.started))))
    end
  elseif type(rental.ended) == 'number' and rental.ended < oldest then
    redis.call('HDEL', rentals, field)
  end
end
return result
