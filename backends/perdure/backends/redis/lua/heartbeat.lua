-- ARGV: caller, id, operation, secret
local _, id, operation, secret = unpack(ARGV)
local now = clock()
local known = call('HMGET', P .. 'a:' .. id, 't' .. operation, 's' .. operation)
local text = known[1]
if not text or (known[2] or '') ~= secret then return {'unknown', ''} end
local refused, expires, heartbeat = refusal(call('HGET', P .. 'x:' .. id, 'st'), text, now)
if refused then return {refused, ''} end
if heartbeat then
  keep_await(id, operation, expires, heartbeat, now + heartbeat)
end
return {'ok', ''}
