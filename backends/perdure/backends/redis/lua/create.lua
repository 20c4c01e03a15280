-- ARGV: caller, id, function, version, name, digest, timeout, retention, has a parent, parent, tag, format, body,
-- owner ('' without a claim), token
local _, id, fn, version, name, digest, timeout, retention, has_parent, parent, tag, format, body, owner, token =
  unpack(ARGV)
local now = clock()
if call('EXISTS', P .. 't:' .. id) == 1 then return {'gone', ''} end
local h = load(id)
if h then return {'created', now, answer(h), ''} end
local field = name_field(fn, name)
local other = call('HGET', P .. 'name', field)
if other then
  h = load(other)
  local at = over(h, h.retention)
  return {(at and at <= now) and 'outdated' or 'exists', now, answer(h), ''}
end
local owned = owner ~= '' and extend(owner, now)
h = {id = id, old = {}}
local text = table.concat({
  S(now), timeout, retention, #fn, #version, #name, #digest, has_parent == '1' and #parent or '',
}, ' ') .. '\n' .. fn .. version .. name .. digest .. parent
static(h, text)
call('RPUSH', P .. 'j:' .. id, text)
call('HSET', P .. 'name', field, id)
call('SADD', P .. 'functions', fn)
call('ZADD', P .. list_key(nil, fn), S(now), id)
append(h, now, tag, tonumber(format), '', '', '', '', body)
if h.timeout then h.dl = now + h.timeout end
if owned then take(h, owner, token, now) else h.wk = now end
save(h, now)
return told({'created', now, answer(h)})
