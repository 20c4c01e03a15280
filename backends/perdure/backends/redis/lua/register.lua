-- ARGV: caller, owner, span, then name, version, timeout and retention of each function
local owner, span, now = ARGV[2], ARGV[3], clock()
local lease = P .. 'l:' .. owner
if call('HEXISTS', lease, 'dead') == 1 then return {'lost', ''} end
call('HSETNX', lease, 'since', S(now))
call('HSET', lease, 'span', span)
call('ZADD', P .. 'lease', S(now + span), owner)
for i = 4, #ARGV, 4 do
  call('HSET', P .. 'f:' .. ARGV[i], ARGV[i + 1], ARGV[i + 2] .. ' ' .. ARGV[i + 3] .. ' ' .. S(now))
end
return {'ok', ''}
