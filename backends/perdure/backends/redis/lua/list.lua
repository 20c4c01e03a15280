-- The next of a shard's executions by (created, id).
-- ARGV: caller, 'oldest' | 'newest', created after, created before (inclusive bounds, or -inf and +inf), cursor's time
-- and id ('' at the beginning), limit, how many to look at, has a version, version, has a name, name, statuses,
-- then functions, or none for all
local _, order, after, before, cursor_at, cursor_id, limit, looks = unpack(ARGV, 1, 8)
local has_version, version, has_name, name, count = unpack(ARGV, 9, 13)
limit, looks, cursor_at, count = tonumber(limit), tonumber(looks), tonumber(cursor_at), tonumber(count)
local oldest = order == 'oldest'
local functions = {unpack(ARGV, 14 + count)}
if #functions == 0 then functions = call('SMEMBERS', P .. 'functions') end
if cursor_at then
  if oldest then after = S(cursor_at) else before = S(cursor_at) end
end

local function precedes(a_at, a_id, b_at, b_id)
  if a_at ~= b_at then return (a_at < b_at) == oldest end
  return a_id ~= b_id and (a_id < b_id) == oldest
end

-- Up to `looks` members of an index behind the cursor.
local found = {}
local function gather(key)
  need(key)
  local offset, got = 0, 0
  while got < looks do
    local flat
    if oldest then
      flat = call('ZRANGEBYSCORE', key, after, before, 'WITHSCORES', 'LIMIT', offset, looks)
    else
      flat = call('ZREVRANGEBYSCORE', key, before, after, 'WITHSCORES', 'LIMIT', offset, looks)
    end
    for i = 1, #flat, 2 do
      local at = tonumber(flat[i + 1])
      if got < looks and (not cursor_at or precedes(cursor_at, cursor_id, at, flat[i])) then
        found[#found + 1] = {at, flat[i]}
        got = got + 1
      end
    end
    if #flat < 2 * looks then return false end
    offset = offset + looks
  end
  return true
end

local more = false
for _, fn in ipairs(functions) do
  for i = 14, 13 + count do
    if gather(P .. 'ix:' .. ARGV[i] .. ':' .. fn) then more = true end
  end
end
table.sort(found, function(a, b) return precedes(a[1], a[2], b[1], b[2]) end)

local headers, last = {}, nil
for i = 1, math.min(looks, #found) do
  local h = load(found[i][2])
  last = found[i]
  if (has_version == '' or h.version == version) and (has_name == '' or h.name == name) then
    headers[#headers + 1] = answer(h)
    if #headers == limit then break end
  end
end
if not more and last == found[#found] then last = nil end
return {headers, last and last[1] or '', last and last[2] or ''}
