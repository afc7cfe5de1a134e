-- What the scripts beside this one share; it stands before each of them.
-- A fleet's traffic is a hash: `since`, from when on it is counted without a gap, and for each bucket of
-- time, named by its start in Unix seconds, `asked:{bucket}`, `answered:{bucket}` and `tokens:{bucket}`.
-- `turns` counts the questions that a worker was asked, `turn:{worker}` is the last one of each.
-- ARGV[1] a bucket's length, seconds   ARGV[2] for how long buckets are kept, seconds
local AHEAD = 60  -- seconds; clocks are put right by less all the time
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = math.floor(now / ARGV[1]) * ARGV[1]

-- pcall: damaged counts must not keep a question from its worker
local function begin(traffic)
  redis.pcall('HSETNX', traffic, 'since', now)
end

local function count(traffic, what, amount)
  begin(traffic)
  return redis.pcall('HINCRBY', traffic, what .. ':' .. bucket, amount)
end

-- Drops buckets that are too old. Some that are still to come say that the clock was put back: it is
-- counted without a gap since now.
local function trim(traffic)
  local since = tonumber(redis.call('HGET', traffic, 'since')) or 0
  local put_back = since > now + AHEAD and since < math.huge
  for _, field in ipairs(redis.call('HKEYS', traffic)) do
    local start = tonumber(string.match(field, ':(%d+)$'))
    local early = start and start > now + AHEAD
    if early or start and start < now - ARGV[2] then
      redis.call('HDEL', traffic, field)
    end
    put_back = put_back or early
  end
  if put_back then
    redis.call('HSET', traffic, 'since', now)
  end
end

local function count_question(traffic)
  if count(traffic, 'asked', 1) == 1 then
    trim(traffic)
  end
end
