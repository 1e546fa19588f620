-- Plants a token, unless there is another than the caller has seen.
-- KEYS token; ARGV the one that was seen or '', the one to plant -> the one that is there
local seen = redis.pcall('GET', KEYS[1])
if type(seen) ~= 'string' then seen = '' end
if seen ~= ARGV[1] then return seen end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
