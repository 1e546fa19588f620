-- Gives a tag another stamp: whatever names the one before is dead. A tag without one has nothing.
-- KEYS stamp; ARGV random value -> whether there was one
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local t = redis.call('TIME')
local now = string.format('%016.0f', t[1] * 1000000 + t[2])
redis.call('SET', KEYS[1], now .. ' ' .. ARGV[1], 'KEEPTTL')
return 1
