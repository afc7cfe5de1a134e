-- Adds one event to the sums of its minute, hour and day.
-- KEYS    one hash for each period
-- ARGV    the lifetime in seconds of each, then pairs of field and increment
for number, key in ipairs(KEYS) do
  for at = #KEYS + 1, #ARGV, 2 do
    redis.call('HINCRBYFLOAT', key, ARGV[at], ARGV[at + 1])
  end
  redis.call('EXPIRE', key, ARGV[number])
end
return 1
