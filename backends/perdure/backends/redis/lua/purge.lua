-- ARGV: caller, limit
local DAY = '86400000'
local ids = call('ZRANGEBYSCORE', P .. 'done', '-inf', S(clock()), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local h = load(id)
  touch(h)
  call('SET', P .. 't:' .. id, '1', 'PX', DAY)
  local field = name_field(h.fn, h.name)
  if call('HGET', P .. 'name', field) == id then call('HDEL', P .. 'name', field) end
  call('ZREM', P .. list_key(h.st, h.fn), id)
  call('ZREM', P .. 'done', id)
  call('UNLINK', P .. 'x:' .. id, P .. 'j:' .. id, P .. 'a:' .. id, P .. 'k:' .. id)
end
return {#ids, ''}
