-- Saves the state of the autoscaler and the record of its step, if it still holds the lock.
-- KEYS[1] the autoscaler's hash
-- ARGV[1] the holder's fence   ARGV[2..4] failures, observations, price (JSON)   ARGV[5] the record (JSON)
-- ARGV[6] how many records are kept
-- Returns 0 where the fleet has another holder since, else 1
local key = KEYS[1]
if redis.call('HGET', key, 'lock:fence') ~= ARGV[1] then
  return 0
end
local function sound(raw)
  local number = tonumber(raw)
  return number and number >= 0 and number < 1e15 and math.floor(number) or 0
end

local last, kept = sound(redis.call('HGET', key, 'decisions')), {}
for _, field in ipairs(redis.call('HKEYS', key)) do
  local digits = string.match(field, '^decision:(%d+)$')
  if digits then
    last = math.max(last, sound(digits))
    kept[#kept + 1] = { field, sound(digits) }
  end
end
for _, decision in ipairs(kept) do
  if decision[2] <= last + 1 - ARGV[6] then
    redis.call('HDEL', key, decision[1])
  end
end
local number = string.format('%.0f', last + 1)
redis.call('HSET', key, 'failures', ARGV[2], 'sights', ARGV[3], 'price', ARGV[4],
  'decision:' .. number, ARGV[5], 'decisions', number)
return 1
