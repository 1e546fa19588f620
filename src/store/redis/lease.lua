-- Grants the right to fill a variant, unless another fill of this incarnation has it or a fresh
-- record is there.
-- KEYS key; ARGV variant digest, token, milliseconds, '1' where what is fresh is not wanted, digest of
-- the stamps of its tags or ''
-- -> {0, generation, microseconds} granted | {1, token} held | {2, generation, record} found
local k, vf, lf = KEYS[1], 'v:' .. ARGV[1], 'l:' .. ARGV[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local inc = string.sub(ARGV[2], 1, 16)
local r = redis.call('HMGET', k, 'g', vf, lf)
local g = r[1] or '0'
local v, l = r[2], r[3]
if v and ARGV[4] ~= '1' and string.sub(v, 6, 21) == inc
  and tonumber(string.sub(v, 23, 34)) == tonumber(g)
  and (tonumber(string.sub(v, 50, 62)) or 0) > now then
  return {2, g, v}
end
if l then
  local token, expiry, lg, ls = string.match(l, '^(%x+) (%d+) (%d+) ?(%x*)$')
  if token and lg == g and ls == ARGV[5] and tonumber(expiry) > now and string.sub(token, 1, 16) == inc then
    return {1, token}
  end
end
local lease = string.format('%s %.0f %s', ARGV[2], now + tonumber(ARGV[3]), g)
if ARGV[5] ~= '' then lease = lease .. ' ' .. ARGV[5] end
redis.call('HSET', k, lf, lease)
-- Never shortened: other variants may be kept for longer.
if redis.call('PTTL', k) < tonumber(ARGV[3]) then redis.call('PEXPIRE', k, ARGV[3]) end
return {0, g, string.format('%.0f', t[1] * 1000000 + t[2])}
