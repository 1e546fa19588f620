-- Gives a tag another version: records that name one before are dead, or after a soft invalidation outdated
-- since the next. Without a version there are none.
-- KEYS version; ARGV random value, number of earlier versions that are kept -> whether there was one
local v = redis.pcall('GET', KEYS[1])
if not v then return 0 end
local kept = ''
if type(v) == 'string' and #v % 34 == 33 then kept = string.sub(' ' .. v, 1, 34 * ARGV[2]) end
local t = redis.call('TIME')
local now = string.format('%016.0f', t[1] * 1000000 + t[2])
redis.call('SET', KEYS[1], now .. ' ' .. ARGV[1] .. kept, 'KEEPTTL')
return 1
