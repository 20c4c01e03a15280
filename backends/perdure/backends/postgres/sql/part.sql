-- name: header
e.id, e.function, e.version, e.name, e.digest, e.status, e.deleting, e.created, e.ended, e.timeout, e.deadline,
    e.time_left, e.retention, e.paused, e.owner, e.token, e.seq, e.seq_at, e.seq_length, e.length, e.tip_at,
    e.tip_tag, e.wake, e.invocation_id, e.invocation_at, e.crashes, e.quarantined, e.format, e.parent,
    e.effect_last, e.settled, e.effect_due, e.epoch

-- name: grown
-- What every row changes that its owner did not write.
length = l.length + 1, tip_at = greatest(c.now, l.tip_at), tip_tag = %(tag)s,
        format = greatest(l.format, %(format)s),
        -- Due by the clock, not by the row: the row may stand ahead of a clock that was set back.
        wake = case when l.owner is null and not l.quarantined then least(l.wake, c.now) else l.wake end

-- name: ended
-- What an end from outside changes.
length = l.length + 1, tip_at = greatest(c.now, l.tip_at), ended = greatest(c.now, l.tip_at),
        format = greatest(l.format, %(format)s),
        paused = false, time_left = null, deadline = null, wake = null, owner = null,
        invocation_id = null, invocation_at = null,
        effect_last = case when l.parent is null then l.effect_last else l.length + 1 end
