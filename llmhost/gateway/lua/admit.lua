-- Finds an API key and, where its digest is the one that was sent, decides whether it may ask once more now, and
-- counts that. One script, so that several gateways together let through what one would.
-- KEYS[1] the key, a hash: its limits, `asked` (`second:count` of the last minute), and of the `day` (in days since
-- 1970) what was used of `requests`, `tokens` and `usd`
-- ARGV[1] the digest that was sent   ARGV[2] 1: it asks something, which counts   ARGV[3…] fields that are returned
-- Returns nil where there is no such key; else the verdict (`ok`, `unproven`, `expired`, or the limit that is
-- reached), after how many seconds it may ask again, the requests in the last minute, the day, what was used of it
-- (requests, tokens, usd), and the fields.
local WINDOW = 60  -- seconds
local now = tonumber(redis.call('TIME')[1])
local today = math.floor(now / 86400)
local key = KEYS[1]
local known = redis.call('HMGET', key, 'digest', 'expires', 'requests_per_minute', 'tokens_per_day', 'usd_per_day',
  'asked', 'day', 'requests', 'tokens', 'usd', 'last_used')
if not known[1] then
  return false
end

-- Equal strings are one object to Lua, so that the time tells nothing; and they are hashes. The caller compares again.
if known[1] ~= ARGV[1] then
  return {'unproven'}
end
if known[2] and tonumber(known[2]) <= now then
  return {'expired'}
end

local used = {'0', '0', '0'}
if tonumber(known[7] or '') == today then
  used = {known[8] or '0', known[9] or '0', known[10] or '0'}
end
local verdict, wait, count = 'ok', 0, 0
if ARGV[2] == '1' then
  -- A request of second s may be up to a second younger than s, so that it counts for the 60 s after that second.
  -- One of a second far ahead was counted before the clock was put back.
  local kept = {}
  for second, amount in string.gmatch(known[6] or '', '(%d+):(%d+)') do
    second, amount = tonumber(second), tonumber(amount)
    if second >= now - WINDOW and second <= now + WINDOW then
      kept[#kept + 1] = {second, amount}
      count = count + amount
    end
  end
  local per_minute = tonumber(known[3] or '')
  if known[4] and tonumber(used[2]) >= tonumber(known[4]) then
    verdict, wait = 'tokens_per_day', (today + 1) * 86400 - now
  elseif known[5] and tonumber(used[3]) >= tonumber(known[5]) then
    verdict, wait = 'usd_per_day', (today + 1) * 86400 - now
  elseif per_minute and count >= per_minute then
    verdict = 'requests_per_minute'
    local left = count
    for _, one in ipairs(kept) do
      left = left - one[2]
      if left < per_minute then
        wait = math.max(1, one[1] + WINDOW + 1 - now)
        break
      end
    end
  elseif per_minute then
    local last = kept[#kept]
    if last and last[1] >= now then
      last[2] = last[2] + 1
    else
      kept[#kept + 1] = {now, 1}
    end
    count = count + 1
    local written = {}
    for place, one in ipairs(kept) do
      written[place] = string.format('%d:%d', one[1], one[2])
    end
    redis.call('HSET', key, 'asked', table.concat(written, ' '))
  end
end

if now - (tonumber(known[11] or '') or 0) >= 60 then
  redis.call('HSET', key, 'last_used', now)
end
local fields = redis.call('HMGET', key, unpack(ARGV, 3))
return {verdict, wait, count, today, used[1], used[2], used[3], fields}
