-- A journal is a list: the execution's static part, then its rows, so that a row's index is its place.
local function row(at, tag, seen, invocation, begun, operation, body)
  return S(at) .. ' ' .. tag .. ' ' .. seen .. ' ' .. invocation .. ' ' .. begun .. ' ' .. operation .. '\n' .. body
end

-- Whether the journal's row of that index, or its beginning, has that tip.
local function has_tip(id, length, last_at, last_tag, index, at, tag)
  if index == length then return at == last_at and tag == last_tag end
  if index < 0 or index > length then return false end
  if index == 0 then return at == 0 and tag == '' end
  local found = call('LINDEX', P .. 'j:' .. id, index)
  local found_at, found_tag = string.match(found, '^(%d+) (%S*) ')
  return tonumber(found_at) == at and found_tag == tag
end
