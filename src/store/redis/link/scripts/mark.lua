#!lua flags=allow-oom
-- Notes the time of an invalidation, for as long as fills are to be told of it.
-- KEYS mark; ARGV milliseconds, at most an hour
local t = redis.call('TIME')
-- Never shortened, but where the clock was set back.
local left = redis.call('PTTL', KEYS[1])
local kept = left > 3600000 and 0 or left
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
redis.call('SET', KEYS[1], now, 'PX', math.max(kept, tonumber(ARGV[1])))
return 1
