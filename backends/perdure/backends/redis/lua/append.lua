-- The plain commit: an entry, and the owner goes on owning.
-- ARGV: caller, id, token, seq, seen, tip's time, tip's tag, tag, format, body
local _, id, token, seq, seen, tip_at, tip_tag, tag, format, body = unpack(ARGV)
local now = clock()
local h, reply = fence(id, token, tonumber(seq), tonumber(seen), tonumber(tip_at), tip_tag, now)
if not h then return reply end
local at, length = math.max(now, h.ta), h.ln + 1
call('RPUSH', P .. 'j:' .. id, row(at, tag, seen, '', '', '', body))
local text, count = S(at), S(length)
call('HSET', P .. 'x:' .. id, 'sq', seq, 'sa', text, 'sl', count, 'ln', count, 'ta', text, 'tt', tag)
-- Owned, it stands in no index that goes by format.
if tonumber(format) > h.fm then call('HSET', P .. 'x:' .. id, 'fm', format) end
return {1, length, at, now, ''}
