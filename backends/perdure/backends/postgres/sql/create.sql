-- name: batch
-- Creations of one name take turns by an advisory lock, so that none waits for what another one inserts. `on conflict`
-- sees everything that is committed, whatever the statement's snapshot.
with input as materialized (
    select * from unnest(
        %(id)s::text[], %(function)s::text[], %(version)s::text[], %(name)s::text[], %(digest)s::text[],
        %(timeout)s::bigint[], %(retention)s::bigint[], %(parent)s::text[], %(tag)s::text[], %(format)s::bigint[],
        %(owner)s::text[], %(token)s::text[], %(guard)s::bigint[]
    ) as t (id, function, version, name, digest, timeout, retention, parent, tag, format, owner, token, guard)
),
leased as materialized (
    select l.owner, l.span from perdure.lease l
    where l.owner = any(%(owner)s::text[]) and l.reaped is null
    order by l.owner
    for no key update
),
guarded as materialized (
    select i.* from input i cross join (select count(*) from leased) as leases
    where {guard}
),
clock as materialized (select perdure.clock() as now, count(*) as locks from guarded),
created as (
    insert into perdure.execution as e (
        id, function, version, name, digest, timeout, retention, parent, format, created, deadline, length, tip_at,
        tip_tag, owner, token, wake, invocation_id, invocation_at
    )
    select
        g.id, g.function, g.version, g.name, g.digest, g.timeout, g.retention, g.parent, g.format, c.now,
        c.now + g.timeout, 1, c.now, g.tag, s.owner,
        case when s.owner is not null then g.token end,
        case when s.owner is null then c.now end,
        case when s.owner is not null then g.token end,
        case when s.owner is not null then c.now end
    from guarded g cross join clock c left join leased s on s.owner = g.owner
    order by g.function, g.name
    on conflict do nothing
    returning e.number, {header}
),
extended as (
    update perdure.lease l set until = c.now + s.span
    from leased s cross join clock c where l.owner = s.owner and s.owner in (select n.owner from created n)
),
appended as (
    insert into perdure.journal (execution, ordinal, at, tag, body)
    select n.number, 1, n.tip_at, n.tip_tag, (%(body)s::bytea[])[array_position(%(id)s::text[], n.id)]
    from created n
)
select c.now, n.* from created n cross join clock c

-- name: known
-- What stands in the way of a creation.
select perdure.clock(), e.buried is not null as is_buried, e.removal <= perdure.clock() as is_over, {header}
from perdure.execution e where e.id = %(id)s or (e.function = %(function)s and e.name = %(name)s)
order by e.id <> %(id)s
