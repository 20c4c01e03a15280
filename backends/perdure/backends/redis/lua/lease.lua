-- Leases: a hash per owner (span, claim number, since when; 'dead' once reaped) and their ends in one index.
local function extend(owner, now)
  local l = call('HMGET', P .. 'l:' .. owner, 'span', 'dead', 'number')
  if not l[1] or l[2] then return nil end
  call('ZADD', P .. 'lease', S(now + l[1]), owner)
  return tonumber(l[3] or 0)
end
