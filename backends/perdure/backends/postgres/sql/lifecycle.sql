-- name: stop
with l as materialized (
    select e.* from perdure.execution e where e.id = %(id)s and e.buried is null for no key update
),
c as materialized (select perdure.clock() as now, count(*) as locks from l),
-- What is committed under this key is seen here, whatever the statement's snapshot.
keyed as (
    insert into perdure.signal (execution, key)
    select l.number, %(key)s from l where l.status = 'RUNNING'
    on conflict do nothing
    returning execution
),
signalled as (
    update perdure.execution e
    set status = 'STOPPED', tip_tag = %(tag)s,
        effect_due = case when l.parent is null then l.effect_due else greatest(c.now, l.tip_at) + %(grace)s end,
        {ended}
    from l cross join c cross join keyed where e.id = l.id
    returning {header}
),
appended as (
    insert into perdure.journal (execution, ordinal, at, tag, invocation_id, invocation_at, body)
    select l.number, l.length + 1, greatest(c.now, l.tip_at), %(tag)s, l.invocation_id, l.invocation_at, %(body)s
    from l cross join c cross join keyed
),
retired as (
    update perdure.await w set due = null
    from l cross join keyed where w.id > l.id || '/' and w.id < l.id || '0' and coalesce(w.due, 0) <> 0
)
select l.owner as former_owner, false as is_due, s.* from l cross join signalled s

-- name: pause
with l as materialized (
    select e.* from perdure.execution e where e.id = %(id)s and e.buried is null for no key update
),
c as materialized (select perdure.clock() as now, count(*) as locks from l),
keyed as (
    insert into perdure.signal (execution, key)
    select l.number, %(key)s from l where l.status = 'RUNNING' and not l.paused
    on conflict do nothing
    returning execution
),
signalled as (
    update perdure.execution e
    set
        paused = true,
        time_left = case
            when %(keep_timeout)s and l.deadline is not null then greatest(0, l.deadline - greatest(c.now, l.tip_at))
            else l.time_left
        end,
        deadline = case when not %(keep_timeout)s then l.deadline end,
        {grown}
    from l cross join c cross join keyed where e.id = l.id
    returning {header}
),
appended as (
    insert into perdure.journal (execution, ordinal, at, tag, body)
    select l.number, l.length + 1, greatest(c.now, l.tip_at), %(tag)s, %(body)s from l cross join c cross join keyed
)
select l.owner as former_owner, false as is_due, s.* from l cross join signalled s

-- name: resume
with l as materialized (
    select e.id, e.number, e.status, e.paused, e.length, e.tip_at, e.format, e.owner, e.wake, e.deadline, e.time_left,
        -- A resume clears it ahead of all else.
        false as quarantined, e.quarantined as was_quarantined
    from perdure.execution e where e.id = %(id)s and e.buried is null for no key update
),
c as materialized (select perdure.clock() as now, count(*) as locks from l),
keyed as (
    insert into perdure.signal (execution, key)
    select l.number, %(key)s from l where l.status = 'RUNNING' and (l.paused or l.was_quarantined)
    on conflict do nothing
    returning execution
),
signalled as (
    update perdure.execution e
    set
        paused = false, quarantined = false, crashes = 0,
        deadline = coalesce(greatest(c.now, l.tip_at) + l.time_left, l.deadline), time_left = null,
        {grown}
    from l cross join c cross join keyed where e.id = l.id
    returning {header}
),
appended as (
    insert into perdure.journal (execution, ordinal, at, tag, body)
    select l.number, l.length + 1, greatest(c.now, l.tip_at), %(tag)s, %(body)s from l cross join c cross join keyed
)
select l.owner as former_owner, l.owner is null as is_due, s.* from l cross join signalled s

-- name: delete
with l as materialized (
    select e.* from perdure.execution e where e.id = %(id)s and e.buried is null for no key update
),
keyed as (
    insert into perdure.signal (execution, key)
    select l.number, %(key)s from l where l.status <> 'RUNNING'
    on conflict do nothing
    returning execution
),
signalled as (
    update perdure.execution e set deleting = true
    from l cross join keyed where e.id = l.id
    returning {header}
)
select null::text as former_owner, false as is_due, s.* from signalled s

-- name: signalled
-- Why a signal did nothing: its key is known, or the status does not allow it.
select exists (select from perdure.signal k where k.execution = e.number and k.key = %(key)s) as is_known, {header}
from perdure.execution e where e.id = %(id)s and e.buried is null

-- name: unsettled
with clock as materialized (select perdure.clock() as now),
due as materialized (
    select e.id, e.effect_due from perdure.execution e
    where e.effect_due <= (select now from clock)
    order by e.effect_due, e.id
    limit %(limit)s
    for no key update of e skip locked
),
taken as (
    update perdure.execution e set effect_due = c.now + %(retry)s
    from due d cross join clock c where e.id = d.id
    returning d.effect_due as was_due, {header}
)
select
    least(
        (
            select min(o.effect_due) from (
                select e.effect_due from perdure.execution e
                where e.effect_due is not null and e.id <> all (select id from due)
                order by e.effect_due, e.id
                limit 1
            ) as o
        ),
        (select min(c.now + %(retry)s) from due cross join clock c)
    ) as next,
    t.*
from clock c left join taken t on true
order by t.was_due, t.id

-- name: settle
with locked as materialized (
    select e.* from perdure.execution e where e.id = %(id)s and e.buried is null for no key update
),
judged as materialized (
    select l.id, l.epoch = %(epoch)s and case
        when l.length = %(through)s then l.tip_at = %(at)s and l.tip_tag = %(tag)s
        when %(through)s = 0 then %(at)s = 0 and %(tag)s = ''
        else exists (
            select from perdure.journal j
            where j.execution = l.number and j.ordinal = %(through)s and j.at = %(at)s and j.tag = %(tag)s
        )
    end as is_right
    from locked l
),
settled as (
    update perdure.execution e
    set settled = greatest(e.settled, %(through)s),
        effect_due = case when greatest(e.settled, %(through)s) < e.effect_last then e.effect_due end
    from judged j where j.is_right and e.id = j.id
)
select is_right from judged

-- name: purge
with clock as materialized (select perdure.clock() as now),
past as materialized (
    select e.id, e.number from perdure.execution e
    where e.removal <= (select now from clock)
    order by e.removal, e.id
    limit %(limit)s
    for no key update of e skip locked
),
rows as (delete from perdure.journal j using past p where j.execution = p.number),
awaits as (delete from perdure.await w using past p where w.id > p.id || '/' and w.id < p.id || '0'),
keys as (delete from perdure.signal k using past p where k.execution = p.number),
buried as (
    update perdure.execution e
    set buried = c.now, name = null, created = null, ended = null, token = null, parent = null
    from past p cross join clock c where e.id = p.id
),
-- Whoever comes with one of these ids after so long is answered like any that never was.
exhumed as (
    delete from perdure.execution x using (
        select e.id from perdure.execution e
        where e.buried < (select now from clock) - %(span)s
        order by e.buried
        limit 500
        for update of e skip locked
    ) as o
    where x.id = o.id
),
forgotten as (
    delete from perdure.lease x using (
        select l.owner from perdure.lease l
        where l.reaped < (select now from clock) - %(span)s
        limit 500
        for update of l skip locked
    ) as o
    where x.owner = o.owner
)
select count(*) from past
