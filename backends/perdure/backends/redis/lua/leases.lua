-- ARGV: caller
local flat, found = call('ZRANGE', P .. 'lease', 0, -1, 'WITHSCORES'), {}
for i = 1, #flat, 2 do
  local owner = flat[i]
  need(P .. 'l:' .. owner, P .. 'own:' .. owner)
  local l = call('HMGET', P .. 'l:' .. owner, 'since', 'span')
  found[#found + 1] = {owner, l[1], l[2], tonumber(flat[i + 1]), call('SMEMBERS', P .. 'own:' .. owner)}
end
return {clock(), found}
