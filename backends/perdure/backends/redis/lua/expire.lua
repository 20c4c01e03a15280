-- ARGV: caller, limit, tag, format, bodies for a callback, a heartbeat and an execution
local _, limit, tag, format, callback, heartbeat, execution = unpack(ARGV)
local now, count = clock(), 0
limit, format = tonumber(limit), tonumber(format)
for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'await', '-inf', S(now), 'LIMIT', 0, limit)) do
  local id, operation = string.match(member, '^([^/]*)/(.*)$')
  local h = load(id)
  touch(h, format)
  local expires, _, beat = times(call('HGET', P .. 'a:' .. id, 't' .. operation))
  count = count + 1
  close_await(id, operation, 'X')
  local lacks_heartbeat = beat and (not expires or beat < expires)
  intrude(h, now, tag .. count, format, operation, lacks_heartbeat and heartbeat or callback)
  save(h, now)
end
if count < limit then
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'deadline', '-inf', S(now), 'LIMIT', 0, limit - count)) do
    local h = load(id)
    touch(h, format, 'TIMED_OUT')
    count = count + 1
    depose(h, now, tag .. count, format, execution, 'TIMED_OUT')
    -- No owner will carry its effects out first.
    if not settled(h) then h.ed = now end
    save(h, now)
  end
end
local first = tonumber(call('ZRANGE', P .. 'await', 0, 0, 'WITHSCORES')[2])
local other = tonumber(call('ZRANGE', P .. 'deadline', 0, 0, 'WITHSCORES')[2])
return told({count, earliest(first, other) or ''})
