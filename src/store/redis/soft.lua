-- Makes what is stored at a key outdated, and voids every fill of it.
-- KEYS key -> the new generation, or 0 where there is nothing
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HINCRBY', KEYS[1], 'g', 1)
