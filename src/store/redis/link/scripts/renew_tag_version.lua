#!lua flags=allow-oom
-- Gives a tag another version: records that name the one before are dead. Without a version there are none.
-- KEYS version; ARGV random value, milliseconds for which nothing may be stored for the tag from now on
-- -> whether there was one
local k, window = KEYS[1], tonumber(ARGV[2])
local before = redis.pcall('GET', k)
-- A value that is no version is replaced.
if type(before) == 'table' then before = '' end
if not before and window == 0 then return 0 end
local t = redis.call('TIME')
local millis = t[1] * 1000 + math.floor(t[2] / 1000)
-- The window of an earlier call goes on.
local until_ = tonumber(string.match(before or '', '^%d+ %x+ (%d+)$')) or 0
if window > 0 then until_ = math.max(until_, millis + window) end
local version = string.format('%016.0f %s', t[1] * 1000000 + t[2], ARGV[1])
if until_ > millis then version = version .. string.format(' %.0f', until_) end
redis.call('SET', k, version, 'KEEPTTL')
local left = redis.call('PTTL', k)
if not before or (left >= 0 and left < until_ - millis) then
  redis.call('PEXPIRE', k, math.max(until_ - millis, 1))
end
return before and 1 or 0
