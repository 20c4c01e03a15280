-- Awaits are fields of one hash per execution: 's' and the operation for the secret, 't' and the operation for times
-- ("timeout heartbeat beat"), or 'D' and a nonce once delivered, or 'X' once out of time.
local function times(text)
  local expires, heartbeat, beat = string.match(text, '^(%d*) (%d*) (%d*)$')
  return tonumber(expires), tonumber(heartbeat), tonumber(beat)
end

local function earliest(a, b)
  if not a or not b then return a or b end
  return math.min(a, b)
end

local function keep_await(id, operation, expires, heartbeat, beat)
  local text = (expires and S(expires) or '') .. ' ' .. (heartbeat and S(heartbeat) or '') .. ' '
    .. (beat and S(beat) or '')
  call('HSET', P .. 'a:' .. id, 't' .. operation, text)
  local deadline = earliest(expires, beat)
  if deadline then call('ZADD', P .. 'await', S(deadline), id .. '/' .. operation) end
end

local function close_await(id, operation, mark)
  call('HSET', P .. 'a:' .. id, 't' .. operation, mark)
  call('ZREM', P .. 'await', id .. '/' .. operation)
end

-- Why an await can neither be completed nor kept alive, or nil; its times.
local function refusal(ended, text, now)
  local mark = string.sub(text, 1, 1)
  if mark == 'X' then return 'expired' end
  if mark == 'D' or ended then return 'closed' end
  local expires, heartbeat, beat = times(text)
  local deadline = earliest(expires, beat)
  if deadline and deadline <= now then return 'expired' end
  return nil, expires, heartbeat
end
