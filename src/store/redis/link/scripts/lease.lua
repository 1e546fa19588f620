-- Grants the lease of a variant, unless another fill of this incarnation holds it or a fresh record is
-- there. While nothing may be stored for the key or one of its tags, the lease, with a '!', is of every fill
-- that knows it and can never be committed.
-- KEYS key, mark; ARGV variant digest, token, milliseconds, '1' where a fresh record is not wanted, digest of
-- the versions of its tags or '', milliseconds for which nothing may be stored for its tags
-- -> {0, microseconds} granted | {1, token} held | {2, record} found | {3} nothing may be stored
-- | {4, token} so it is, and other fills have this token
local k, vf, lf = KEYS[1], 'v:' .. ARGV[1], 'l:' .. ARGV[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local inc = string.sub(ARGV[2], 1, 16)
local marked = redis.call('PTTL', KEYS[2])
if marked ~= -2 then
  -- A value that is not ours may have replaced a mark: no window is longer than an hour.
  local window = tonumber(redis.pcall('GET', KEYS[2])) or 3600000
  -- Nor does one without an end, or from before the clock was set back, last for longer than its window.
  if marked == -1 or marked > window + 1000 then
    redis.call('SET', KEYS[2], window, 'PX', window)
    marked = window
  end
end
local left = math.max(marked, tonumber(ARGV[6]))
local r = redis.call('HMGET', k, vf, lf)
local v, l = r[1], r[2]
if v and ARGV[4] ~= '1' and string.sub(v, 6, 21) == inc
  and (tonumber(string.sub(v, 37, 49)) or 0) > now
  -- Not from before the clock was set back.
  and (tonumber(string.sub(v, 23, 35)) or 0) <= now + 1000 then
  return {2, v}
end
if l then
  local token, expiry, versions, shared = string.match(l, '^(%x+) (%d+) ?(%x*)(!?)$')
  local longest = left > 0 and left or tonumber(ARGV[3])
  if token and versions == ARGV[5] and string.sub(token, 1, 16) == inc
    and tonumber(expiry) > now and tonumber(expiry) <= now + longest + 1000
    and (shared == '!') == (left > 0) then
    if left <= 0 then return {1, token} end
    return token == ARGV[2] and {3} or {4, token}
  end
end
local kept = left > 0 and left or tonumber(ARGV[3])
local lease = string.format('%s %.0f', ARGV[2], now + kept)
if ARGV[5] ~= '' then lease = lease .. ' ' .. ARGV[5] end
if left > 0 then lease = lease .. '!' end
redis.call('HSET', k, lf, lease)
-- Never shortened: other variants may be kept for longer.
if redis.call('PTTL', k) < kept then redis.call('PEXPIRE', k, kept) end
if left > 0 then return {3} end
return {0, string.format('%.0f', t[1] * 1000000 + t[2])}
