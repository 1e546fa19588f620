-- Stores records if the fill still has its right, and gives the right back.
-- KEYS key; ARGV variant digest of the lease, token, retention in ms, most fields, then pairs of
-- variant digest and record
-- -> 1 stored | 0 the right is gone (deleted, expired, evicted, flushed) | -1 taken over | -2 softly
-- invalidated
local k, lf = KEYS[1], 'l:' .. ARGV[1]
local r = redis.call('HMGET', k, 'g', lf)
if not r[2] then return 0 end
local token, lg = string.match(r[2], '^(%x+) %d+ (%d+) ?%x*$')
if token ~= ARGV[2] then return -1 end
if lg ~= (r[1] or '0') then
  redis.call('HDEL', k, lf)
  return -2
end
local fields, ours = {}, {}
for i = 5, #ARGV, 2 do
  fields[#fields + 1] = 'v:' .. ARGV[i]
  fields[#fields + 1] = ARGV[i + 1]
  ours['v:' .. ARGV[i]] = true
end
-- Written before the lease is removed: the first write fails where memory is full, and removing the
-- last field would remove the key with its expiry.
redis.call('HSET', k, unpack(fields))
redis.call('HDEL', k, lf)
if redis.call('PTTL', k) < tonumber(ARGV[3]) then redis.call('PEXPIRE', k, ARGV[3]) end
local n = redis.call('HLEN', k)
if n <= 8 then return 1 end
-- Few of many: what is no longer of use goes, and beyond the limit anything but the generation.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local over = n > tonumber(ARGV[4])
for _, f in ipairs(redis.call('HRANDFIELD', k, 4)) do
  local kind = string.sub(f, 1, 2)
  if kind == 'v:' and not ours[f] then
    local kept = tonumber(string.sub(redis.call('HGET', k, f), 64, 76))
    if over or not kept or kept < now then redis.call('HDEL', k, f) end
  elseif kind == 'l:' then
    local expiry = tonumber(string.match(redis.call('HGET', k, f), '^%x+ (%d+) '))
    if not expiry or expiry < now then redis.call('HDEL', k, f) end
  end
end
return 1
