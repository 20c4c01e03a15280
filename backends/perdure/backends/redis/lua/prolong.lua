-- ARGV: caller. Nobody could renew while the server was away: whoever lives gets one more span.
local now = clock()
for _, owner in ipairs(call('ZRANGE', P .. 'lease', 0, -1)) do
  need(P .. 'l:' .. owner)
  local span = call('HGET', P .. 'l:' .. owner, 'span')
  if span then call('ZADD', P .. 'lease', 'GT', S(now + span), owner) end
end
return {'ok', ''}
