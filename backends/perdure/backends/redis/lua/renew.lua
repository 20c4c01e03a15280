-- ARGV: caller, owner
local owner = ARGV[2]
if not extend(owner, clock()) then return {'lost', ''} end
local held = {}
for i, id in ipairs(call('SMEMBERS', P .. 'own:' .. owner)) do
  need(P .. 'x:' .. id)
  local v = call('HMGET', P .. 'x:' .. id, 'tk', 'sq', 'ln')
  held[i] = {id, v[1], tonumber(v[2] or 0), tonumber(v[3])}
end
return {'held', held, ''}
