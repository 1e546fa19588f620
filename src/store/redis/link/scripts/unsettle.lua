#!lua flags=allow-oom
-- Removes a key, and forbids to store anything for it for a time.
-- KEYS key, mark; ARGV milliseconds
redis.call('UNLINK', KEYS[1])
local left = redis.call('PTTL', KEYS[2])
-- Never shortened. One from before the clock was set back begins again.
local kept = math.min(left, tonumber(redis.pcall('GET', KEYS[2])) or 0)
local window = math.max(kept, tonumber(ARGV[1]))
redis.call('SET', KEYS[2], window, 'PX', window)
return 1
