-- name: batch
-- Deliveries of one batch are for different executions. One that was written before counts as of then.
with input as materialized (
    select * from unnest(
        %(execution)s::text[], %(operation)s::text[], %(secret)s::text[], %(tag)s::text[], %(format)s::bigint[],
        %(nonce)s::text[], %(written)s::bigint[]
    ) with ordinality as t (execution, operation, secret, tag, format, nonce, written, place)
),
locked as materialized (
    select i.*, e.number, e.id, e.length, e.tip_at, e.format as own_format, e.owner, e.wake, e.quarantined, e.paused,
        e.due, e.function, e.status <> 'RUNNING' as is_ended
    from input i
    join perdure.execution e on e.id = i.execution
    order by e.id
    for no key update of e {skip}
),
clock as materialized (select perdure.clock() as now, count(*) as locks from locked),
found as materialized (
    select l.*, w.id as await, w.closed_by, w.timed_out, w.due as await_due, w.secret as own_secret
    from clock c cross join locked l
    join perdure.await w on w.id = l.execution || '/' || l.operation
    for update of w
),
judged as materialized (
    select f.*, c.now, case
        when f.secret <> f.own_secret then 'unknown'
        when f.closed_by = f.nonce then 'delivered'
        when f.timed_out then 'expired'
        when f.closed_by is not null or f.is_ended then 'closed'
        when f.await_due <= coalesce(f.written, c.now) then 'expired'
        else 'accepted'
    end as verdict
    from found f cross join clock c
),
closed as (
    update perdure.await w set closed_by = j.nonce, due = null
    from judged j where j.verdict = 'accepted' and w.id = j.await
),
grown as (
    update perdure.execution e
    set
        length = j.length + 1, tip_at = greatest(j.now, j.tip_at), tip_tag = j.tag,
        format = greatest(j.own_format, j.format),
        -- Due by the clock, not by the row: the row may stand ahead of a clock that was set back.
        wake = case when j.owner is null and not j.quarantined then least(j.wake, j.now) else j.wake end
    from judged j where j.verdict = 'accepted' and e.id = j.id
),
appended as (
    insert into perdure.journal (execution, ordinal, at, tag, operation, body)
    select j.number, j.length + 1, greatest(j.now, j.tip_at), j.tag, j.operation,
        (%(body)s::bytea[])[j.place::integer]
    from judged j where j.verdict = 'accepted'
)
select l.place, coalesce(j.verdict, 'unknown'), l.function, l.owner,
    l.owner is null and not l.quarantined and not l.paused and (l.due is null or l.due > j.now) as is_due
from locked l left join judged j on j.place = l.place

-- name: heartbeat
with locked as materialized (
    select e.id, e.status <> 'RUNNING' as is_ended from perdure.execution e where e.id = %(execution)s
    for no key update
),
clock as materialized (select perdure.clock() as now, count(*) as locks from locked),
found as materialized (
    select w.*, l.is_ended
    from clock c cross join locked l join perdure.await w on w.id = %(await)s
    for update of w
),
judged as materialized (
    select f.*, c.now, case
        when f.secret <> %(secret)s then 'unknown'
        when f.timed_out then 'expired'
        when f.closed_by is not null or f.is_ended then 'closed'
        when f.due <= c.now then 'expired'
        else 'accepted'
    end as verdict
    from found f cross join clock c
),
beaten as (
    update perdure.await w
    set heartbeat_due = j.now + j.heartbeat, due = least(j.expires, j.now + j.heartbeat)
    from judged j where j.verdict = 'accepted' and j.heartbeat is not null and w.id = j.id
)
select verdict from judged

-- name: next
select c.now,
    (select w.due from perdure.await w where w.due is not null order by w.due limit 1) as await,
    (select e.deadline from perdure.execution e where e.deadline is not null order by e.deadline limit 1) as deadline,
    exists (select from perdure.inbox) as has_post
from (select perdure.clock() as now) as c

-- name: expire
-- Several awaits of one execution may be out of time: their rows follow each other. One that was opened while its
-- execution was ended from outside was not seen there; it is retired here.
with began as materialized (select perdure.clock() as now),
candidate as materialized (
    select w.id, split_part(w.id, '/', 1) as execution from perdure.await w
    where w.due <= (select now from began)
    order by w.due, w.id
    limit %(limit)s
),
locked as materialized (
    select e.id, e.number, e.length, e.tip_at, e.format, e.owner, e.wake, e.quarantined, e.paused, e.due, e.function,
        e.status <> 'RUNNING' as is_ended
    from perdure.execution e
    where e.id in (select execution from candidate)
    order by e.id
    for no key update skip locked
),
clock as materialized (select perdure.clock() as now, count(*) as locks from locked),
overdue as materialized (
    select l.id, l.number, l.is_ended, w.id as await, w.due, split_part(w.id, '/', 2) as operation,
        w.heartbeat_due is not null and (w.expires is null or w.heartbeat_due < w.expires) as lacks_heartbeat
    from clock c cross join candidate n join locked l on l.id = n.execution join perdure.await w on w.id = n.id
    where w.due <= c.now
    for update of w
),
numbered as materialized (
    select o.*, l.length + row_number() over (partition by o.id order by o.due, o.await) as ordinal,
        greatest(c.now, l.tip_at) as at, substr(replace(gen_random_uuid()::text, '-', ''), 1, 16) as tag
    from overdue o join locked l on l.id = o.id cross join clock c
    where not o.is_ended
),
closed as (
    update perdure.await w set timed_out = w.timed_out or not o.is_ended, due = null
    from overdue o where w.id = o.await
),
last as materialized (select distinct on (n.id) n.* from numbered n order by n.id, n.ordinal desc),
grown as (
    update perdure.execution e
    set
        length = n.ordinal, tip_at = n.at, tip_tag = n.tag, format = greatest(l.format, %(format)s),
        wake = case when l.owner is null and not l.quarantined then least(l.wake, c.now) else l.wake end
    from last n join locked l on l.id = n.id cross join clock c where e.id = n.id
),
appended as (
    insert into perdure.journal (execution, ordinal, at, tag, operation, body)
    select n.number, n.ordinal, n.at, n.tag, n.operation,
        case when n.lacks_heartbeat then %(heartbeat)s::bytea else %(callback)s::bytea end
    from numbered n
)
select l.id, l.function, l.owner,
    l.owner is null and not l.quarantined and not l.paused and (l.due is null or l.due > c.now) as is_due
from numbered n join locked l on l.id = n.id cross join clock c

-- name: time_out
with began as materialized (select perdure.clock() as now),
l as materialized (
    select e.* from perdure.execution e
    where e.deadline <= (select now from began)
    order by e.deadline, e.id
    limit %(limit)s
    for no key update skip locked
),
c as materialized (select perdure.clock() as now, count(*) as locks from l),
over as (
    update perdure.execution e
    set status = 'TIMED_OUT', tip_tag = left(encode(sha256(convert_to(l.id || %(salt)s, 'UTF8')), 'hex'), 16),
        -- Nobody else knows of this end.
        effect_due = case when l.parent is not null or l.settled < l.effect_last then c.now end,
        {ended}
    from l cross join c where e.id = l.id
),
appended as (
    insert into perdure.journal (execution, ordinal, at, tag, invocation_id, invocation_at, body)
    select l.number, l.length + 1, greatest(c.now, l.tip_at),
        left(encode(sha256(convert_to(l.id || %(salt)s, 'UTF8')), 'hex'), 16), l.invocation_id, l.invocation_at, %(body)s
    from l cross join c
),
retired as (
    update perdure.await w set due = null
    from l where w.id > l.id || '/' and w.id < l.id || '0' and coalesce(w.due, 0) <> 0
)
select l.id, l.function, l.owner, false as is_due from l

-- name: submit
-- A delivery goes into the inbox if it would be accepted now; nothing is locked.
with found as (
    select w.secret, w.closed_by, w.timed_out, w.due, e.status <> 'RUNNING' as is_ended
    from perdure.execution e join perdure.await w on w.id = %(await)s
    where e.id = %(execution)s
),
judged as (
    select case
        when secret <> %(secret)s then 'unknown'
        when closed_by = %(nonce)s then 'delivered'
        when timed_out then 'expired'
        when closed_by is not null or is_ended then 'closed'
        when due <= perdure.clock() then 'expired'
        else 'accepted'
    end as verdict
    from found
),
posted as (
    insert into perdure.inbox (at, await, secret, body, tag, format, nonce)
    select perdure.clock(), %(await)s, %(secret)s, %(body)s, %(tag)s, %(format)s, %(nonce)s
    from judged where verdict = 'accepted'
)
select verdict from judged

-- name: posted
select position, at, await, secret, body, tag, format, nonce from perdure.inbox
where position > %(after)s order by position limit %(limit)s

-- name: discard
delete from perdure.inbox where position = any(%(position)s::bigint[])
