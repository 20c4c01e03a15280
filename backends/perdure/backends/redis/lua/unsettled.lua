-- ARGV: caller, limit
local now, found = clock(), {}
for i, id in ipairs(call('ZRANGEBYSCORE', P .. 'effect', '-inf', S(now), 'LIMIT', 0, ARGV[2])) do
  local h = load(id)
  touch(h)
  h.ed = now + EFFECT_RETRY
  save(h, now)
  found[i] = answer(h)
end
return told({tonumber(call('ZRANGE', P .. 'effect', 0, 0, 'WITHSCORES')[2]) or '', found})
