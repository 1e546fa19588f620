#!lua flags=allow-oom
-- Removes a key, and forbids to store anything for it for a time.
-- KEYS key, mark; ARGV milliseconds
redis.call('UNLINK', KEYS[1])
local left = redis.call('PTTL', KEYS[2])
-- Never shortened, and one without an end stays.
if left ~= -1 and left < tonumber(ARGV[1]) then redis.call('SET', KEYS[2], '1', 'PX', ARGV[1]) end
return 1
