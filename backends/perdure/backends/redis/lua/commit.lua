-- ARGV: caller, id, token, seq, seen, tip's time, tip's tag, tag, format ('' without an entry), body,
-- 'keep' | 'suspend' | status, clean, wake at, wake after, quarantine, effects, reopen,
-- then operation, secret, timeout, heartbeat of each await
local _, id, token, seq, seen, tip_at, tip_tag, tag, format, body = unpack(ARGV, 1, 10)
local fate, clean, wake_at, wake_after, quarantine, effects, reopen = unpack(ARGV, 11, 17)
local now = clock()
seq, seen = tonumber(seq), tonumber(seen)
local _, reply = fence(id, token, seq, seen, tonumber(tip_at), tip_tag, now)
if reply then return reply end
local h = load(id)
touch(h, tonumber(format), fate ~= 'keep' and fate ~= 'suspend' and fate or nil)

local at, unseen = math.max(now, h.ta), h.ln > seen
if format ~= '' then append(h, now, tag, tonumber(format), S(seen), '', '', '', body) end
h.sq, h.sa, h.sl = seq, at, h.ln
if reopen == '1' then h.iv, h.ia, h.cr = token, at, (h.cr or 0) + 1 end
if effects == '1' then h.el, h.ed = h.ln, at + EFFECT_GRACE end
for i = 18, #ARGV, 4 do
  local operation, timeout, heartbeat = ARGV[i], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  if ARGV[i + 1] ~= '' then call('HSET', P .. 'a:' .. id, 's' .. operation, ARGV[i + 1]) end
  keep_await(id, operation, timeout and at + timeout, heartbeat, heartbeat and at + heartbeat)
end
if fate == 'suspend' then
  h.ow = nil
  h.wk = earliest(tonumber(wake_at), earliest(tonumber(wake_after) and at + tonumber(wake_after), unseen and now or nil))
  if quarantine == '1' then h.wk, h.qu = nil, '1' end
  if format ~= '' then
    h.iv, h.ia = nil, nil
    if clean == '1' then h.cr = nil end
  elseif h.iv == token then
    -- Nothing was told of the invocation: it never was, unless somebody else left it open.
    h.iv, h.ia = nil, nil
  end
elseif fate ~= 'keep' then
  finish(h, fate, at)
end
save(h, now)
return told({1, h.ln, at, now})
