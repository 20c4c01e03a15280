-- After a failover anywhere: live executions that ever had effects carry them out once more.
-- ARGV: caller, function, cursor's time and id ('' at the beginning), how many to look at
local _, fn, cursor_at, cursor_id, looks = unpack(ARGV)
local now, key, seen, offset = clock(), P .. 'ix:RUNNING:' .. ARGV[2], 0, 0
local at, last = tonumber(cursor_at), cursor_id
looks = tonumber(looks)
while seen < looks do
  local from = cursor_at == '' and '-inf' or cursor_at
  local flat = call('ZRANGEBYSCORE', key, from, '+inf', 'WITHSCORES', 'LIMIT', offset, looks)
  for i = 1, #flat, 2 do
    local score, id = tonumber(flat[i + 1]), flat[i]
    if seen < looks and (not at or score > at or score == at and id > last) then
      at, last, seen = score, id, seen + 1
      local h = load(id)
      if h.el then
        touch(h)
        h.se, h.ep, h.ed = nil, (h.ep or 0) + 1, now
        save(h, now)
      end
    end
  end
  if #flat < 2 * looks then return told({'', ''}) end
  offset = offset + looks
end
return told({S(at), last})
