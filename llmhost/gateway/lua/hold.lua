-- Holds what a request may use with an API key, so that many at once do not pass a limit that each alone keeps.
-- KEYS[1] the key, see admit.lua; each hold is a field `hold:<id>` of it: `began expires tokens usd`
-- ARGV[1] the hold's id   ARGV[2] tokens   ARGV[3] USD   ARGV[4] how long it holds at most, seconds
-- Returns 'ok', or the limit that could be passed; how many seconds to wait; and 1 where requests under way could
-- use up what is left of the limit, 0 where it is used up.
local SOON = 5  -- seconds; by then a request under way may have ended
local AHEAD = 60  -- seconds; a hold that began later than so far ahead is of before the clock was put back
local key, now = KEYS[1], tonumber(redis.call('TIME')[1])
local today = math.floor(now / 86400)
local fields, raw = {}, redis.call('HGETALL', key)
local tokens, usd = 0, 0
for n = 1, #raw, 2 do
  local name, value = raw[n], raw[n + 1]
  if string.sub(name, 1, 5) == 'hold:' then
    local began, expires, some, money = string.match(value, '^(%d+) (%d+) (%d+) ([%d.]+)$')
    if began and tonumber(expires) > now and tonumber(began) <= now + AHEAD then
      tokens, usd = tokens + tonumber(some), usd + tonumber(money)
    else
      redis.call('HDEL', key, name)
    end
  else
    fields[name] = value
  end
end
if not fields['digest'] then
  return {'ok', 0, 0}  -- revoked meanwhile: what was admitted is completed
end
local is_today = tonumber(fields['day'] or '') == today
local function reached(limit, used, held)
  limit, used = tonumber(fields[limit] or ''), is_today and tonumber(fields[used] or '') or 0
  if limit and used >= limit then
    return (today + 1) * 86400 - now, 0
  elseif limit and used + held >= limit then
    return SOON, 1
  end
end
local wait, held = reached('tokens_per_day', 'tokens', tokens)
if wait then
  return {'tokens_per_day', wait, held}
end
wait, held = reached('usd_per_day', 'usd', usd)
if wait then
  return {'usd_per_day', wait, held}
end
-- Where book.lua was sooner, it has ended already.
redis.call('HSETNX', key, 'hold:' .. ARGV[1], string.format('%d %d %s %s', now, now + ARGV[4], ARGV[2], ARGV[3]))
return {'ok', 0, 0}
