-- Returns the versions of tags, and sets those that are missing or foreign. None expires within a time.
-- KEYS versions; ARGV milliseconds, then a random value for each
-- -> {microseconds, version, ...}
local t = redis.call('TIME')
local micros = t[1] * 1000000 + t[2]
local now = string.format('%016.0f', micros)
local stamp = string.rep('%d', 16) .. ' ' .. string.rep('%x', 16) .. ' '
local found = {now}
for i, k in ipairs(KEYS) do
  local v = redis.pcall('GET', k)
  local versions, mark = string.match(type(v) == 'string' and v or '', '^([^!]+)(.*)$')
  local is_ours = versions and string.gsub(versions .. ' ', stamp, '') == ''
    and (mark == '' or string.match(mark, '^!%d+$'))
  -- From before the clock was set back, it would look newer than any fill.
  local ahead = is_ours and tonumber(string.sub(v, 1, 16)) - micros
  if not is_ours or ahead > 1000000 then
    v = now .. ' ' .. ARGV[i + 1]
    -- The time in which nothing may be stored begins again.
    if is_ours and mark ~= '' then
      v = v .. string.format('!%.0f', tonumber(string.sub(mark, 2)) - math.floor(ahead / 1000))
    end
    redis.call('SET', k, v, 'PX', 2 * ARGV[1])
  elseif redis.call('PTTL', k) < tonumber(ARGV[1]) then
    -- Far ahead, because every change is pushed to all processes that have read it.
    redis.call('PEXPIRE', k, 2 * ARGV[1])
  end
  found[#found + 1] = v
end
return found
