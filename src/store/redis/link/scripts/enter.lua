-- Enters how late a process may see that another epoch has begun, and then reads the epoch. One that is
-- missing or foreign begins. What cannot be written is left out.
-- KEYS epoch, register if it may be used; ARGV epoch to begin, milliseconds, milliseconds for which they
-- stay in the register
-- -> {epoch or '', milliseconds for which they still do, the longest of all}
local left, longest = 0, 0
if KEYS[2] then
  local t = redis.call('TIME')
  local now, keep = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[3])
  local entered = redis.pcall('HGETALL', KEYS[2])
  if entered.err then
    -- A foreign value goes; a user who may not read the register leaves it alone.
    if string.sub(entered.err, 1, 9) == 'WRONGTYPE' then redis.pcall('DEL', KEYS[2]) end
    entered = {}
  end
  for i = 1, #entered, 2 do
    longest = math.max(longest, tonumber(entered[i]) or 0)
    if entered[i] == ARGV[2] then left = (tonumber(entered[i + 1]) or 0) - now end
  end
  -- Seldom: each change is pushed to all processes. Far ahead only where a clock was set back.
  if left < keep / 2 or left > keep then
    redis.pcall('HSETNX', KEYS[2], 'since', string.format('%.0f', now))
    local set = redis.pcall('HSET', KEYS[2], ARGV[2], string.format('%.0f', now + keep))
    if type(set) == 'number' then left = keep end
    redis.pcall('PEXPIRE', KEYS[2], 2 * keep)
  end
end
local epoch = redis.pcall('GET', KEYS[1])
if type(epoch) ~= 'string' or #epoch ~= 16 or string.find(epoch, '%X') then
  epoch = ARGV[1]
  -- Never absent while this crate's values are there: an epoch that comes back would bring back records
  -- that were invalidated under it.
  if redis.pcall('SET', KEYS[1], epoch).err then epoch = '' end
end
return {epoch, left, longest}
