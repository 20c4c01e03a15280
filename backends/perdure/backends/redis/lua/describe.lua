-- ARGV: caller, then ids
local found = {}
for i = 2, #ARGV do
  local h = load(ARGV[i])
  if h then found[#found + 1] = answer(h) end
end
return found
