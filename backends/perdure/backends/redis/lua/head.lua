-- In front of every script. KEYS[1] is the permanent key of the shard; its name begins the names of all others.
local call, P = redis.call, KEYS[1] .. ':'

-- Lua's own conversion keeps 14 digits, the server's may write an exponent: times need neither.
local function S(number) return string.format('%.0f', number) end

-- While its slot moves between the nodes of a cluster, each of them reads a key that the other one has as if it did not
-- exist, unless it is asked for several at once: then it refuses. KEYS are looked at by the server itself; other keys
-- are to go through here before they are read, and those of an item together before the first write.
local function need(...)
  if CLUSTER then call('EXISTS', KEYS[1], ...) end
end
