-- What a decision about entries needs: {answers, questions}, empty where something has expired.
-- KEYS: the responses of the entries, then their embeddings in the same order
local entries = #KEYS / 2
local questions = {}
for number = 1, entries do
  questions[number] = redis.call('HGET', KEYS[entries + number], 'question')
end
return {redis.call('MGET', unpack(KEYS, 1, entries)), questions}
