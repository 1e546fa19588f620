#!lua flags=allow-oom
-- Gives a tag another version: records that name one before are dead, or after a soft invalidation outdated
-- since the next. Without a version there are none.
-- KEYS version; ARGV random value, number of earlier versions that are kept, milliseconds for which nothing may
-- be stored for the tag from now on -> whether there was one
local k, window = KEYS[1], tonumber(ARGV[3])
local v = redis.pcall('GET', k)
if not v and window == 0 then return 0 end
local t = redis.call('TIME')
local millis = t[1] * 1000 + math.floor(t[2] / 1000)
local kept, until_ = '', 0
if type(v) == 'string' then
  local versions, mark = string.match(v, '^([^!]*)!?(%d*)$')
  if versions and #versions % 34 == 33 then kept = string.sub(' ' .. versions, 1, 34 * ARGV[2]) end
  -- The window of an earlier call goes on. From before the clock was set back, it begins again.
  until_ = tonumber(mark or '') or 0
  local ahead = math.floor((tonumber(string.sub(v, 1, 16)) or 0) / 1000) - millis
  if ahead > 1000 then until_ = until_ - ahead end
end
if window > 0 then until_ = math.max(until_, millis + window) end
local version = string.format('%016.0f %s', t[1] * 1000000 + t[2], ARGV[1]) .. kept
if until_ > millis then version = version .. string.format('!%.0f', until_) end
redis.call('SET', k, version, 'KEEPTTL')
local left = redis.call('PTTL', k)
if not v or (left >= 0 and left < until_ - millis) then
  redis.call('PEXPIRE', k, math.max(until_ - millis, 1))
end
return v and 1 or 0
