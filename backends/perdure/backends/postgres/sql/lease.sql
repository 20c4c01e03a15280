-- name: register
with leased as (
    insert into perdure.lease as l (owner, since, span, until, lock, boot)
    select %(owner)s, c.now, %(span)s::bigint, c.now + %(span)s::bigint, %(lock)s::bigint, %(boot)s::bigint
    from (select perdure.clock() as now) as c
    on conflict (owner) do update
    set span = excluded.span, until = excluded.until, lock = excluded.lock, boot = excluded.boot
    where l.reaped is null
    returning l.owner
),
registered as (
    insert into perdure.function as f (name, version, timeout, retention, registered)
    select n.name, n.version, n.timeout, n.retention, perdure.clock()
    from leased cross join unnest(
        %(name)s::text[], %(version)s::text[], %(timeout)s::bigint[], %(retention)s::bigint[]
    ) as n (name, version, timeout, retention)
    order by n.name, n.version
    on conflict (name, version) do update
    set timeout = excluded.timeout, retention = excluded.retention, registered = excluded.registered
)
select owner from leased

-- name: locked
-- A session of the owner's process holds its lock, or does no more.
update perdure.lease set lock = %(lock)s::bigint, boot = %(boot)s::bigint
where owner = %(owner)s and reaped is null

-- name: claim
with leased as materialized (
    select l.owner, l.span, l.number from perdure.lease l
    where l.owner = %(owner)s and l.reaped is null
    for no key update
),
clock as materialized (select perdure.clock() as now, count(*) > 0 as is_live from leased),
extended as (
    update perdure.lease l set until = c.now + s.span, number = greatest(s.number, %(number)s)
    from leased s cross join clock c where l.owner = s.owner
),
wanted as materialized (
    select f.function, f.version, s.number < %(number)s as is_new,
        -- Unless the clock was set back since that bound was found.
        case when c.now >= %(since_now)s::bigint then %(since)s::bigint else 0 end as since
    from leased s cross join clock c
    cross join unnest(%(function)s::text[], %(version)s::text[]) as f (function, version)
),
-- Materialized, or the planner may carry out a limited sub-select once per row.
due as materialized (
    select d.id, d.due
    from wanted w cross join clock c cross join lateral (
        select e.id, e.due from perdure.execution e
        where e.function = w.function and e.version = w.version and e.due >= w.since and e.due <= c.now
            and e.format <= %(format)s
        order by e.due, e.id
        limit %(limit)s
        for no key update skip locked
    ) as d
    where w.is_new
    order by d.due, d.id
    limit %(limit)s
),
taken as (
    update perdure.execution e
    set
        owner = %(owner)s, token = %(token)s, wake = null,
        invocation_id = coalesce(e.invocation_id, %(token)s),
        invocation_at = case when e.invocation_id is null then c.now else e.invocation_at end
    from due d cross join clock c where e.id = d.id
    returning d.due, {header}
)
select
    c.now, c.is_live, s.number >= %(number)s as is_repeated,
    (
        select min(n.due) from wanted w cross join lateral (
            select e.due from perdure.execution e
            where e.function = w.function and e.version = w.version and e.due >= w.since and e.format <= %(format)s
                and e.id <> all (select id from due)
            order by e.due, e.id
            limit 1
        ) as n
    ) as next,
    t.*
from clock c left join leased s on true left join taken t on true
order by t.due, t.id

-- name: held
select
    c.now,
    (
        select min(n.due)
        from unnest(%(function)s::text[], %(version)s::text[]) as f (function, version) cross join lateral (
            select e.due from perdure.execution e
            where e.function = f.function and e.version = f.version and e.due is not null and e.format <= %(format)s
            order by e.due, e.id
            limit 1
        ) as n
    ) as next,
    {header}
from (select perdure.clock() as now) as c
left join perdure.execution e on e.owner = %(owner)s and e.token = %(token)s
order by e.id

-- name: renew
with extended as (
    update perdure.lease l set until = perdure.clock() + l.span
    where l.owner = %(owner)s and l.reaped is null
    returning l.owner
)
select e.id, e.token, e.seq, e.length
from extended x left join perdure.execution e on e.owner = x.owner
order by e.id

-- name: reap
-- A process may be dead whose lock is free, if it had it since this server was started. It is dead if it was free before.
with recursive clock as materialized (select perdure.clock() as now),
free as materialized (
    select l.owner from perdure.lease l
    where l.reaped is null and l.boot = %(boot)s::bigint and pg_try_advisory_xact_lock_shared(l.lock)
),
lapsed as materialized (
    select l.owner from perdure.lease l cross join clock c
    where l.reaped is null and (
        l.until <= c.now or (l.owner = any (%(suspect)s::text[]) and l.owner in (select f.owner from free f))
    )
    for no key update of l skip locked
),
reaped as (
    update perdure.lease l set reaped = c.now from lapsed p cross join clock c where l.owner = p.owner
),
holder (owner) as (
    (select e.owner from perdure.execution e where e.owner is not null order by e.owner limit 1)
    union all
    select (
        select e.owner from perdure.execution e
        where e.owner is not null and e.owner > h.owner order by e.owner limit 1
    )
    from holder h where h.owner is not null
),
dead as materialized (
    select h.owner from holder h
    where h.owner is not null and (
        h.owner in (select p.owner from lapsed p)
        or not exists (select from perdure.lease l where l.owner = h.owner and l.reaped is null)
    )
),
-- Each owner's for itself, or the planner may read all executions in the order of their ids.
orphan as materialized (
    select o.id from dead d cross join lateral (
        select e.id from perdure.execution e
        where e.owner = d.owner
        order by e.id
        limit %(limit)s
        for no key update of e skip locked
    ) as o
    limit %(limit)s
),
freed as (
    update perdure.execution e set owner = null, wake = c.now
    from orphan o cross join clock c where e.id = o.id
    returning e.id, e.function, e.due is not null as is_due
)
select
    c.now,
    (
        select count(*) from (
            select from dead d join perdure.execution e on e.owner = d.owner limit %(limit)s + 1
        ) as o
    ) > (select count(*) from orphan) as is_more,
    (
        select min(l.until) from perdure.lease l
        where l.reaped is null and l.owner not in (select p.owner from lapsed p)
    ) as next,
    array(select p.owner from lapsed p) as reaped,
    array(select f.owner from free f where f.owner not in (select p.owner from lapsed p)) as suspect,
    f.id, f.function, f.is_due
from clock c left join freed f on true

-- name: living
select c.now, l.owner, l.since, l.span, l.until,
    array(select e.id from perdure.execution e where e.owner = l.owner order by e.id) as held
from (select perdure.clock() as now) as c
left join perdure.lease l on l.reaped is null
order by l.since, l.owner

-- name: ring
select l.owner, l.lock from perdure.lease l
where l.reaped is null and l.boot = %(boot)s::bigint and l.lock is not null
order by l.owner
