-- Counts a question that no worker was there for.
-- KEYS[1] the fleet's traffic   ARGV[1], ARGV[2] as in counting.lua
count_question(KEYS[1])
return 1
