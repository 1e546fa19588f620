-- Stores records if the fill still holds its lease, and releases the lease.
-- KEYS key, mark; ARGV variant digest of the lease, token, retention in ms, limit of fields, the number that is
-- written beside the last record or '', then pairs of variant digest and record
-- -> 1 stored | 0 the lease is gone (deleted, softly invalidated, expired, evicted, flushed)
-- | -1 taken over | 2 nothing may be stored
local k, lf = KEYS[1], 'l:' .. ARGV[1]
if redis.call('EXISTS', KEYS[2]) == 1 then return 2 end
local l = redis.call('HGET', k, lf)
if not l then return 0 end
if string.match(l, '^(%x+) %d+ ?%x*$') ~= ARGV[2] then return -1 end
local fields, gone, ours = {}, {lf}, {}
for i = 6, #ARGV, 2 do
  fields[#fields + 1] = 'v:' .. ARGV[i]
  fields[#fields + 1] = ARGV[i + 1]
  if i + 1 == #ARGV and ARGV[5] ~= '' then
    fields[#fields + 1] = 'v:' .. ARGV[i] .. 'n'
    fields[#fields + 1] = ARGV[5]
  else
    gone[#gone + 1] = 'v:' .. ARGV[i] .. 'n'
  end
  gone[#gone + 1] = 's:' .. ARGV[i]
  ours[ARGV[i]] = true
end
-- Written before the lease is removed: the first write fails where memory is full, and removing the
-- last field would remove the key with its expiry.
redis.call('HSET', k, unpack(fields))
redis.call('HDEL', k, unpack(gone))
if redis.call('PTTL', k) < tonumber(ARGV[3]) then redis.call('PEXPIRE', k, ARGV[3]) end
local n = redis.call('HLEN', k)
if n <= 8 then return 1 end
-- A sample: fields that are of no more use go, and beyond the limit any.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local over = n > tonumber(ARGV[4])
for _, f in ipairs(redis.call('HRANDFIELD', k, 4)) do
  local kind, vk = string.sub(f, 1, 2), string.sub(f, 3, 34)
  if kind == 'l:' then
    local expiry = tonumber(string.match(redis.call('HGET', k, f), '^%x+ (%d+) ?%x*!?$'))
    if not expiry or expiry < now then redis.call('HDEL', k, f) end
  elseif kind == 's:' then
    local kept = tonumber(string.sub(redis.call('HGET', k, f) or '', 65, 77))
    if over or not kept or kept < now then redis.call('HDEL', k, f) end
  elseif kind == 'v:' and not ours[vk] then
    local kept = tonumber(string.sub(redis.call('HGET', k, 'v:' .. vk) or '', 51, 63))
    if over or not kept or kept < now then redis.call('HDEL', k, 'v:' .. vk, 'v:' .. vk .. 'n') end
  end
end
return 1
