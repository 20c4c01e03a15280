-- ARGV: caller, id, after, bytes
local id, after, bytes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local key = P .. 'j:' .. id
local length = call('LLEN', key) - 1
if length < 0 then return {-1} end
local rows, size, chunk = {}, 0, 8
while after < length do
  for _, raw in ipairs(call('LRANGE', key, S(after + 1), S(after + chunk))) do
    size = size + #raw - string.find(raw, '\n', 1, true)
    if #rows > 0 and size > bytes then return {length - after, rows} end
    rows[#rows + 1] = raw
    after = after + 1
  end
  -- About as many more as will fit.
  chunk = math.floor(math.max(8, math.min(1000, (bytes - size) * #rows / math.max(size, 1))))
end
return {0, rows}
