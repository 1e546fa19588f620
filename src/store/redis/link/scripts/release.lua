-- Releases a lease, if this fill still holds it.
-- KEYS key; ARGV variant digest, token -> number of fields that were removed
local lf = 'l:' .. ARGV[1]
local l = redis.call('HGET', KEYS[1], lf)
if l and string.sub(l, 1, #ARGV[2] + 1) == ARGV[2] .. ' ' then
  return redis.call('HDEL', KEYS[1], lf)
end
return 0
