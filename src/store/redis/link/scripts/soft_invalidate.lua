-- Puts the records of a key aside as outdated from now on, and voids every fill of it. Nothing may be stored
-- for it for a time.
-- KEYS key, mark; ARGV milliseconds for which a record is kept beyond its use, milliseconds of that time or 0
-- -> number of fields that there were
local k = KEYS[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local fields = redis.call('HKEYS', k)
for _, f in ipairs(fields) do
  local kind = string.sub(f, 1, 2)
  if kind == 'v:' then
    local record = redis.call('HGET', k, f)
    local fresh, kept = tonumber(string.sub(record, 37, 49)), tonumber(string.sub(record, 51, 63))
    -- Only where it may be of use once it is no longer fresh; a number has no times.
    if fresh and kept and kept - fresh > tonumber(ARGV[1]) then
      redis.call('HSET', k, 's:' .. string.sub(f, 3), string.format('%013.0f ', now) .. record)
    end
  end
  if kind == 'v:' or kind == 'l:' then redis.call('HDEL', k, f) end
end
local left, window = redis.call('PTTL', KEYS[2]), tonumber(ARGV[2])
if window > 0 then
  -- As for a hard one.
  window = math.max(window, math.min(left, tonumber(redis.pcall('GET', KEYS[2])) or 0))
  redis.call('SET', KEYS[2], window, 'PX', window)
end
return #fields
