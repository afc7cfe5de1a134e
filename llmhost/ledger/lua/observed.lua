-- Notes what a worker costs now. A worker whose price changes has one rental for each stretch of one price;
-- the last of them lies under the worker's own field, the earlier ones under it with "/" and their start.
-- Time that was not observed is counted at the dearer price: a price that fell holds from now on, one that rose since it was last
-- seen otherwise.
-- KEYS    the rentals (hash)
-- ARGV    the worker's field, USD an hour, since when the worker is paid for, now (both in seconds)
-- Returns 0 where the worker's record makes no sense, else 1
local rentals, field = KEYS[1], ARGV[1]
local price, started = tonumber(ARGV[2]), tonumber(ARGV[3])
-- A machine whose clock is ahead must not say what the others will see later.
local now = math.max(started, math.min(tonumber(ARGV[4]), tonumber(redis.call('TIME')[1]) + 60))

-- Exact, which cjson.encode is not.
local function number(value)
  return string.format('%.17g', value)
end

local function write(name, usd, from, seen, ended)
  redis.call('HSET', rentals, name, string.format(
    '{"price_per_hour": %s, "started": %s, "ended": %s, "seen": %s}',
    number(usd), number(from), ended and number(ended) or 'null', number(seen)))
end

local raw = redis.call('HGET', rentals, field)
if not raw then
  write(field, price, started, now)
  return 1
end
local sound, rental = pcall(cjson.decode, raw)
if not sound or type(rental) ~= 'table'
    or type(rental.price_per_hour) ~= 'number' or type(rental.started) ~= 'number' then
  return 0
end
local seen = tonumber(rental.seen) or rental.started
if rental.ended ~= cjson.null then
  -- seconds; a look that began before the end is written down sooner. Later, it was taken for gone and was not.
  if type(rental.ended) ~= 'number' or now < rental.ended + 600 then
    return 1
  end
  seen = rental.ended
end
local before = rental.price_per_hour
if math.abs(price - before) <= 1e-9 * math.max(price, before) then
  -- seconds; observations this close together are one: each would be a write
  if now >= seen + 30 then
    write(field, before, rental.started, now)
  end
  return 1
end
if price < before and now < seen then
  return 1 -- a later observation is there, and it was dearer
end
local turn = price < before and now or math.min(seen, now)
if turn > rental.started then
  write(field .. '/' .. number(rental.started), before, rental.started, turn, turn)
else
  turn = rental.started
end
write(field, price, turn, math.max(now, seen))
return 1
