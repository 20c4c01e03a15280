-- What happened is published once per script, and told to the caller as well. ARGV[1] is the caller's own name, by
-- which it recognizes what it was told already.
local bells, rung = {}, {}

local function ring(kind, id, fn)
  if kind == 'due' then
    if rung[fn] then return end
    rung[fn] = true
  end
  bells[#bells + 1] = kind .. ' ' .. id .. ' ' .. fn
end

local function told(reply)
  local text = table.concat(bells, '\n')
  -- A hint that cannot be published must not fail what is written by now.
  if NOTIFY and text ~= '' then redis.pcall('SPUBLISH', P .. 'bell', ARGV[1] .. '\n' .. text) end
  reply[#reply + 1] = text
  return reply
end
