-- Removes what belongs to entries that there are no more; returns how many keys that were.
-- KEYS of each entry: its response, the key that belongs to it
local dropped = 0
for at = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[at]) == 0 then
    dropped = dropped + redis.call('UNLINK', KEYS[at + 1])
  end
end
return dropped
