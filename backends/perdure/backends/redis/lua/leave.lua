-- ARGV: caller, then owners whose process ends: their leases are over.
local now = clock()
for i = 2, #ARGV do
  local until_ = tonumber(call('ZSCORE', P .. 'lease', ARGV[i]) or nil)
  if until_ and until_ > now then
    call('ZADD', P .. 'lease', S(now), ARGV[i])
    ring('died', ARGV[i], '')
  end
end
return told({'ok'})
