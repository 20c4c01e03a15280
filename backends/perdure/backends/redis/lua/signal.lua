-- ARGV: caller, id, kind, key, tag, format, body, keep the timeout
local _, id, kind, key, tag, format, body, keep = unpack(ARGV)
local now = clock()
local h = load(id)
if not h then return {'unknown', ''} end
if call('SISMEMBER', P .. 'k:' .. id, key) == 1 then return {'signalled', answer(h), ''} end
local allowed
if kind == 'delete' then
  allowed = h.st
elseif kind == 'pause' then
  allowed = not h.st and not h.pz
elseif kind == 'resume' then
  allowed = not h.st and (h.pz or h.qu)
else
  allowed = not h.st
end
if not allowed then return {'refused', answer(h), ''} end
format = tonumber(format)
touch(h, format, kind == 'stop' and 'STOPPED' or nil)
call('SADD', P .. 'k:' .. id, key)
if kind == 'stop' then
  depose(h, now, tag, format, body, 'STOPPED')
elseif kind == 'pause' then
  h.pz = '1'
  intrude(h, now, tag, format, '', body)
  if keep == '1' and h.dl then h.lf, h.dl = math.max(0, h.dl - h.ta), nil end
elseif kind == 'resume' then
  h.pz, h.qu, h.cr = nil, nil, nil
  intrude(h, now, tag, format, '', body)
  if h.lf then h.dl, h.lf = h.ta + h.lf, nil end
else
  h.de = '1'
end
save(h, now)
return told({'signalled', answer(h)})
