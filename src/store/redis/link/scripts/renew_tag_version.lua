-- Gives a tag another version: records that name the one before are dead. Without a version there are none.
-- KEYS version; ARGV random value -> whether there was one
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local t = redis.call('TIME')
local now = string.format('%016.0f', t[1] * 1000000 + t[2])
redis.call('SET', KEYS[1], now .. ' ' .. ARGV[1], 'KEEPTTL')
return 1
