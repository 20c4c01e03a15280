-- ARGV: caller, limit. Leases that run out end at once; what their owners held is freed as far as the limit goes, and
-- the owners are remembered until nothing is left.
local WEEK = '604800000'
local now, limit, count = clock(), tonumber(ARGV[2]), 0
for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'lease', '-inf', S(now))) do
  need(P .. 'l:' .. owner, P .. 'own:' .. owner)
  call('HSET', P .. 'l:' .. owner, 'dead', '1')
  call('PEXPIRE', P .. 'l:' .. owner, WEEK)
  call('SADD', P .. 'dead', owner)
  call('ZREM', P .. 'lease', owner)
end
for _, owner in ipairs(call('SMEMBERS', P .. 'dead')) do
  need(P .. 'own:' .. owner)
  if count < limit then
    for _, id in ipairs(call('SRANDMEMBER', P .. 'own:' .. owner, limit - count)) do
      local h = load(id)
      touch(h)
      h.ow, h.wk = nil, now
      save(h, now)
      count = count + 1
    end
  end
  if call('EXISTS', P .. 'own:' .. owner) == 0 then call('SREM', P .. 'dead', owner) end
end
return told({count, tonumber(call('ZRANGE', P .. 'lease', 0, 0, 'WITHSCORES')[2]) or ''})
