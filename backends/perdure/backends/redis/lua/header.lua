-- The header of an execution: a hash that lacks what is empty or 0. Short names keep it compact. What never changes
-- stands at the head of its journal.
local FIELDS = {
  'st', 'ow', 'tk', 'sq', 'sa', 'sl', 'ln', 'ta', 'tt', 'wk', 'iv', 'ia', 'fm', 'dl', 'lf', 'pz', 'qu', 'cr', 'el',
  'se', 'ed', 'ep', 'en', 'de',
}
local NUMBER = {
  sq = true, sa = true, sl = true, ln = true, ta = true, wk = true, ia = true, fm = true, dl = true, lf = true,
  cr = true, el = true, se = true, ed = true, ep = true, en = true,
}
local EFFECT_GRACE, EFFECT_RETRY = 2000000, 5000000

local function static(h, text)
  local created, timeout, retention, fn, version, name, digest, parent, from =
    string.match(text, '^(%d+) (%d*) (%d+) (%d+) (%d+) (%d+) (%d+) (%d*)\n()')
  h.text, h.created, h.timeout, h.retention = text, tonumber(created), tonumber(timeout), tonumber(retention)
  h.fn = string.sub(text, from, from + fn - 1)
  from = from + fn
  h.version = string.sub(text, from, from + version - 1)
  from = from + version
  h.name = string.sub(text, from, from + name - 1)
  h.has_parent = parent ~= ''
end

local function load(id)
  need(P .. 'x:' .. id, P .. 'j:' .. id)
  local flat = call('HGETALL', P .. 'x:' .. id)
  if #flat == 0 then return nil end
  local h, old = {id = id}, {}
  for i = 1, #flat, 2 do
    local field, value = flat[i], flat[i + 1]
    if NUMBER[field] then value = tonumber(value) end
    h[field], old[field] = value, value
  end
  h.old = old
  static(h, call('LINDEX', P .. 'j:' .. id, 0))
  return h
end

local function name_field(fn, name) return #fn .. ':' .. fn .. name end
local function due_key(fn, version, format) return 'due:' .. format .. ':' .. #version .. ':' .. version .. fn end
local function list_key(status, fn) return 'ix:' .. (status or 'RUNNING') .. ':' .. fn end

-- When it is to be claimed, and when it may be purged, as far as is known.
local function due(h) return not (h.st or h.ow or h.pz or h.qu) and h.wk or nil end
local function settled(h) return (h.se or 0) >= (h.el or 0) end
local function over(h, retention)
  if not h.en or not settled(h) then return nil end
  return h.de and h.en or h.en + retention
end

-- All that may be written with it. `format` is that of an entry to come, `status` how the execution is about to end.
local function touch(h, format, status)
  if not CLUSTER then return end
  local id = h.id
  local keys = {
    P .. 'x:' .. id, P .. 'j:' .. id, P .. 'a:' .. id, P .. 'k:' .. id, P .. 't:' .. id, P .. 'await',
    P .. 'deadline', P .. 'effect', P .. 'done', P .. 'name', P .. list_key(h.st, h.fn),
    P .. due_key(h.fn, h.version, h.fm), P .. due_key(h.fn, h.version, math.max(h.fm, format or 0)),
  }
  if h.ow then keys[#keys + 1] = P .. 'own:' .. h.ow end
  if status then keys[#keys + 1] = P .. list_key(status, h.fn) end
  need(unpack(keys))
end

local function move(key, old, new, id)
  if old == new then return end
  if new then call('ZADD', P .. key, S(new), id) else call('ZREM', P .. key, id) end
end

local function save_due(h, now)
  local old, new = due(h.old), due(h)
  local to = due_key(h.fn, h.version, h.fm)
  if old and h.old.fm ~= h.fm then
    call('ZREM', P .. due_key(h.fn, h.version, h.old.fm), h.id)
    move(to, nil, new, h.id)
  else
    move(to, old, new, h.id)
  end
  if new and new <= now and (not old or old > now) then ring('due', h.id, h.fn) end
end

local function save_end(h)
  for _, field in ipairs(call('HKEYS', P .. 'a:' .. h.id)) do
    if string.sub(field, 1, 1) == 't' then call('ZREM', P .. 'await', h.id .. '/' .. string.sub(field, 2)) end
  end
  call('ZREM', P .. list_key(nil, h.fn), h.id)
  call('ZADD', P .. list_key(h.st, h.fn), S(h.created), h.id)
  ring('ended', h.id, h.fn)
end

-- Write what has changed, and the indexes that follow from it.
local function save(h, now)
  local old, set, gone = h.old, {}, {}
  for _, field in ipairs(FIELDS) do
    local value = h[field]
    if value ~= old[field] then
      if value == nil then
        gone[#gone + 1] = field
      else
        set[#set + 1] = field
        set[#set + 1] = NUMBER[field] and S(value) or value
      end
    end
  end
  if #set > 0 then call('HSET', P .. 'x:' .. h.id, unpack(set)) end
  if #gone > 0 then call('HDEL', P .. 'x:' .. h.id, unpack(gone)) end
  save_due(h, now)
  move('deadline', old.dl, h.dl, h.id)
  move('effect', old.ed, h.ed, h.id)
  move('done', over(old, h.retention), over(h, h.retention), h.id)
  if old.ow ~= h.ow then
    if old.ow then call('SREM', P .. 'own:' .. old.ow, h.id) end
    if h.ow then call('SADD', P .. 'own:' .. h.ow, h.id) end
  end
  if h.st and not old.st then save_end(h) end
end

local function append(h, now, tag, format, seen, invocation, begun, operation, body)
  h.ta = math.max(now, h.ta or 0)
  h.tt, h.ln, h.fm = tag, (h.ln or 0) + 1, math.max(h.fm or 0, format)
  call('RPUSH', P .. 'j:' .. h.id, row(h.ta, tag, seen, invocation, begun, operation, body))
end

local function take(h, owner, token, now)
  h.ow, h.tk, h.wk = owner, token, nil
  if not h.iv then h.iv, h.ia = token, now end
end

-- Not the row's time: a clock that was set back must not put off what is due at once.
local function wake(h, now)
  if not h.ow and not h.qu and (not h.wk or now < h.wk) then h.wk = now end
end

local function arm(h) h.el, h.ed = h.ln, h.ta + EFFECT_GRACE end

local function finish(h, status, at)
  h.st, h.en = status, at
  h.pz, h.lf, h.dl, h.wk, h.ow, h.iv, h.ia = nil, nil, nil, nil, nil, nil, nil
  if h.has_parent then h.el, h.ed = h.ln, at + EFFECT_GRACE end
end

-- Append what the owner did not write.
local function intrude(h, now, tag, format, operation, body)
  append(h, now, tag, format, '', '', '', operation, body)
  wake(h, now)
  if h.ow then ring('grew', h.id, h.fn) end
end

-- End it over its owner's head.
local function depose(h, now, tag, format, body, status)
  if h.ow then ring('grew', h.id, h.fn) end
  append(h, now, tag, format, '', h.iv or '', h.ia and S(h.ia) or '', '', body)
  finish(h, status, h.ta)
end

-- The header as the caller reads it.
local function answer(h)
  local flat = {h.id, h.text}
  for i, field in ipairs(FIELDS) do flat[i + 2] = h[field] or '' end
  return flat
end
