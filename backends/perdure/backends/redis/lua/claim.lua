-- ARGV: caller, owner, number, token, limit, then the names of the due indexes
local _, owner, number, token, limit = unpack(ARGV, 1, 5)
local now = clock()
number, limit = tonumber(number), tonumber(limit)
local last = extend(owner, now)
if not last then return {'lost', ''} end

local taken = {}
if number <= last then
  for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. owner)) do
    need(P .. 'x:' .. id)
    if call('HGET', P .. 'x:' .. id, 'tk') == token then taken[#taken + 1] = answer(load(id)) end
  end
else
  local found = {}
  if limit > 0 then
    for i = 6, #ARGV do
      local flat = call('ZRANGEBYSCORE', P .. ARGV[i], '-inf', S(now), 'WITHSCORES', 'LIMIT', 0, limit)
      for k = 1, #flat, 2 do found[#found + 1] = {tonumber(flat[k + 1]), flat[k]} end
    end
    table.sort(found, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  end
  local headers = {}
  for i = 1, math.min(limit, #found) do
    headers[i] = load(found[i][2])
    touch(headers[i])
  end
  call('HSET', P .. 'l:' .. owner, 'number', S(number))
  for i, h in ipairs(headers) do
    take(h, owner, token, now)
    save(h, now)
    taken[i] = answer(h)
  end
end

local following
for i = 6, #ARGV do
  local wake = tonumber(call('ZRANGE', P .. ARGV[i], 0, 0, 'WITHSCORES')[2])
  if wake and (not following or wake < following) then following = wake end
end
return told({'claimed', now, following or '', taken})
