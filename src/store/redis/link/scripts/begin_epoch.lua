-- Begins another epoch, and reads how late it may be seen. Without room for another epoch there is none,
-- and nothing is read at all.
-- KEYS epoch, register if it may be used; ARGV epoch, milliseconds for which processes stay in the register
-- -> {epoch or '', the longest that is in the register or 0, milliseconds for which that is complete}
local t = redis.call('TIME')
local now, keep = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[2])
local since, longest, is_lapsed = now, 0, false
local entered = KEYS[2] and redis.pcall('HGETALL', KEYS[2]) or {}
for i = 1, #entered, 2 do
  local length, expiry = tonumber(entered[i]), tonumber(entered[i + 1]) or 0
  if entered[i] == 'since' then
    since = expiry
  elseif length and expiry >= now and expiry <= now + keep then
    longest = math.max(longest, length)
  else
    -- Its processes are gone, or the clock was set and they come back.
    is_lapsed = true
    redis.pcall('HDEL', KEYS[2], entered[i])
  end
end
if is_lapsed or since > now then
  since = now
  redis.pcall('HSET', KEYS[2], 'since', string.format('%.0f', now))
end
local set = redis.pcall('SET', KEYS[1], ARGV[1])
if set.err then
  if string.sub(set.err, 1, 3) ~= 'OOM' then return set end
  redis.call('UNLINK', KEYS[1])
end
return {set.err and '' or ARGV[1], longest, now - since}
