-- Marks a flight, so that its leader sees that one more process follows it.
-- KEYS[1] flight
-- ARGV[1] the mark: one character
-- Returns the milliseconds that its lease still has; negative where it has ended.
local left = redis.call('PTTL', KEYS[1])
if left > 0 then
  redis.call('APPEND', KEYS[1], ARGV[1])  -- the time to live stays
end
return left
