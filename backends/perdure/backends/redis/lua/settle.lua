-- ARGV: caller, id, through, tip's time, tip's tag, epoch
local _, id, through, tip_at, tip_tag, epoch = unpack(ARGV)
through = tonumber(through)
local h = load(id)
if not h then return {'unknown', ''} end
if (h.ep or 0) ~= tonumber(epoch) or not has_tip(id, h.ln, h.ta, h.tt, through, tonumber(tip_at), tip_tag) then
  return {'fenced', ''}
end
touch(h)
if through > (h.se or 0) then h.se = through end
if settled(h) then h.ed = nil end
save(h, clock())
return told({'ok'})
