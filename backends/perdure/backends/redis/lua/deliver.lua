-- ARGV: caller, id, operation, secret, nonce, tag, format, body
local _, id, operation, secret, nonce, tag, format, body = unpack(ARGV)
local now = clock()
local known = call('HMGET', P .. 'a:' .. id, 't' .. operation, 's' .. operation)
local text = known[1]
if not text or (known[2] or '') ~= secret then return {'unknown', ''} end
if text == 'D' .. nonce then return {'delivered', ''} end
local h = load(id)
local refused = refusal(h.st, text, now)
if refused then return {refused, ''} end
touch(h, tonumber(format))
close_await(id, operation, 'D' .. nonce)
intrude(h, now, tag, tonumber(format), operation, body)
save(h, now)
return told({'delivered'})
