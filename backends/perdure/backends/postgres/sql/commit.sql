-- name: batch
-- Rows are locked in the order of ids, and what somebody else has locked is left out: two batches never wait for each
-- other. All that is decided, is decided by what was locked, which is the latest there is; the rest of the statement
-- sees what was committed when it began.
with input as materialized (
    select * from unnest(
        %(id)s::text[], %(token)s::text[], %(seq)s::bigint[], %(seen)s::bigint[], %(tip_at)s::bigint[],
        %(tip_tag)s::text[], %(tag)s::text[], %(format)s::bigint[], %(suspends)s::boolean[], %(status)s::text[],
        %(wake_at)s::bigint[], %(wake_after)s::bigint[], %(clean)s::boolean[], %(quarantine)s::boolean[],
        %(effects)s::boolean[], %(reopen)s::boolean[]
    ) with ordinality as t (
        id, token, seq, seen, tip_at, tip_tag, tag, format, suspends, status, wake_at, wake_after, clean, quarantine,
        effects, reopen, place
    )
),
locked as materialized (
    select
        i.*, e.number, e.function, e.parent, e.paused, e.deadline, e.time_left, e.retention,
        e.token as own_token, e.seq as own_seq, e.seq_at as own_seq_at, e.seq_length as own_seq_length,
        e.length as own_length, e.tip_at as own_tip_at, e.tip_tag as own_tip_tag, e.format as own_format,
        e.crashes as own_crashes, e.invocation_id, e.invocation_at, e.effect_last, e.effect_due,
        e.quarantined as own_quarantined, e.owner is not null and e.status = 'RUNNING' as is_owned
    from input i
    join perdure.execution e on e.id = i.id
    order by e.id
    for no key update of e {skip}
),
clock as materialized (select perdure.clock() as now, count(*) as locks from locked),
judged as materialized (
    select
        l.*,
        c.now,
        greatest(c.now, l.own_tip_at) as at,
        l.own_length + (l.tag is not null)::integer as length,
        l.effects or (l.status is not null and l.parent is not null) as arms,
        case
            when not l.suspends or l.quarantine then null
            else least(
                l.wake_at, greatest(c.now, l.own_tip_at) + l.wake_after, case when l.own_length > l.seen then c.now end
            )
        end as wake,
        case
            when l.own_token is distinct from l.token then 'fenced'
            when l.seq = l.own_seq and l.seq > 0 then 'repeated'
            when not l.is_owned or l.seq <> l.own_seq + 1 then 'fenced'
            when case
                when l.seen = l.own_length then l.tip_at = l.own_tip_at and l.tip_tag = l.own_tip_tag
                when l.seen = 0 then l.tip_at = 0 and l.tip_tag = ''
                else exists (
                    select from perdure.journal j
                    where j.execution = l.number and j.ordinal = l.seen and j.at = l.tip_at and j.tag = l.tip_tag
                )
            end then 'accepted'
            else 'fenced'
        end as verdict
    from locked l cross join clock c
),
accepted as not materialized (select * from judged where verdict = 'accepted'),
written as (
    update perdure.execution e
    set
        seq = a.seq, seq_at = a.at, seq_length = a.length, length = a.length,
        tip_at = case when a.tag is null then a.own_tip_at else a.at end,
        tip_tag = coalesce(a.tag, a.own_tip_tag),
        format = greatest(a.own_format, a.format),
        owner = case when a.suspends or a.status is not null then null else e.owner end,
        wake = a.wake,
        status = coalesce(a.status, e.status),
        ended = case when a.status is not null then a.at end,
        paused = a.paused and a.status is null,
        deadline = case when a.status is null then a.deadline end,
        time_left = case when a.status is null then a.time_left end,
        quarantined = a.own_quarantined or a.quarantine,
        crashes = case
            when a.suspends and a.tag is not null and a.clean then 0
            else a.own_crashes + a.reopen::integer
        end,
        -- A release that tells nothing takes back its own invocation only.
        invocation_id = case
            when a.status is not null or (a.suspends and (a.tag is not null or a.invocation_id = a.token)) then null
            when a.reopen then a.token
            else a.invocation_id
        end,
        invocation_at = case
            when a.status is not null or (a.suspends and (a.tag is not null or a.invocation_id = a.token)) then null
            when a.reopen then a.at
            else a.invocation_at
        end,
        effect_last = case when a.arms then a.length else a.effect_last end,
        effect_due = case when a.arms then a.at + %(grace)s else a.effect_due end
    from accepted a
    where e.id = a.id
),
appended as (
    insert into perdure.journal (execution, ordinal, at, tag, seen, body)
    select a.number, a.length, a.at, a.tag, a.seen, (%(body)s::bytea[])[a.place::integer]
    from accepted a where a.tag is not null
),
retired as (
    update perdure.await w set due = null
    from accepted a
    where a.status is not null and w.id > a.id || '/' and w.id < a.id || '0' and coalesce(w.due, 0) <> 0
),
opened as (
    insert into perdure.await (id, secret, expires, heartbeat, heartbeat_due, due)
    select
        a.id || '/' || o.operation, o.secret, a.at + o.timeout, o.heartbeat, a.at + o.heartbeat,
        least(a.at + o.timeout, a.at + o.heartbeat)
    from unnest(
        %(open_place)s::bigint[], %(open_operation)s::text[], %(open_secret)s::text[], %(open_timeout)s::bigint[],
        %(open_heartbeat)s::bigint[]
    ) as o (place, operation, secret, timeout, heartbeat)
    join accepted a on a.place = o.place
    on conflict (id) do update
    set secret = excluded.secret, expires = excluded.expires, heartbeat = excluded.heartbeat,
        heartbeat_due = excluded.heartbeat_due, due = excluded.due, closed_by = null, timed_out = false
)
select place, verdict, length, at, own_seq_length, own_seq_at, now, function,
    verdict = 'accepted' and wake <= now and not paused and not own_quarantined as is_due,
    wake < now - %(margin)s as is_late
from judged
