-- Adds the calls of a process to those of all, and removes processes that have not reported for ten seconds.
-- What was paid for at the server may be lost: each process knows a time before which it cannot be paid for.
-- KEYS calls; ARGV process, and microseconds: that pay for its calls, that it knows to be owed, that are owed
-- where nothing is known, that are owed at most
-- -> {microseconds that are owed, processes}
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local paid = tonumber(redis.call('HGET', KEYS[1], 'paid') or now + ARGV[4])
paid = math.max(paid, now + ARGV[3], now) + ARGV[2]
-- A clock that was set back is no reason to wait for longer.
paid = math.min(paid, now + ARGV[5])
redis.call('HSET', KEYS[1], 'paid', string.format('%.0f', paid), ARGV[1], string.format('%.0f', now))
local fields, processes = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #fields, 2 do
  if fields[i] ~= 'paid' then
    if math.abs(now - (tonumber(fields[i + 1]) or 0)) <= 10000000 then
      processes = processes + 1
    else
      redis.call('HDEL', KEYS[1], fields[i])
    end
  end
end
redis.call('PEXPIRE', KEYS[1], math.max(math.ceil(ARGV[5] / 1000), 60000))
return {string.format('%.0f', paid - now), processes}
