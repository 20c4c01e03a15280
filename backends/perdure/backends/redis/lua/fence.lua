-- Whether a commit may follow: a table of what the header has, or nil and the reply.
local function fence(id, token, seq, seen, tip_at, tip_tag, now)
  local v = call('HMGET', P .. 'x:' .. id, 'tk', 'ow', 'sq', 'ln', 'ta', 'tt', 'fm')
  if not v[1] or v[1] ~= token then return nil, {0, ''} end
  local last, length, at = tonumber(v[3] or 0), tonumber(v[4]), tonumber(v[5])
  if seq == last and seq > 0 then
    local answered = call('HMGET', P .. 'x:' .. id, 'sl', 'sa')
    return nil, {1, tonumber(answered[1]), tonumber(answered[2]), now, ''}
  end
  if not v[2] or seq ~= last + 1 or not has_tip(id, length, at, v[6], seen, tip_at, tip_tag) then
    return nil, {0, ''}
  end
  return {ln = length, ta = at, fm = tonumber(v[7])}
end
