-- name: by_id
select n.place, {header}
from unnest(%(id)s::text[]) with ordinality as n (id, place)
join perdure.execution e on e.id = n.id
where e.buried is null

-- name: by_name
select {header} from perdure.execution e where e.function = %(function)s and e.name = %(name)s

-- name: entries
-- One row more than fits, if there is one.
select n.place, e.length, j.ordinal, j.at, j.tag, j.seen, j.invocation_id, j.invocation_at, j.operation, j.body
from unnest(%(id)s::text[], %(after)s::bigint[], %(max_bytes)s::bigint[])
    with ordinality as n (id, after, max_bytes, place)
join perdure.execution e on e.id = n.id
left join lateral (
    select * from (
        select r.*, sum(octet_length(r.body)) over (order by r.ordinal) as size from (
            select * from perdure.journal r
            where r.execution = e.number and r.ordinal > n.after
            order by r.ordinal limit %(limit)s
        ) as r
    ) as r
    where r.size <= n.max_bytes or r.ordinal = n.after + 1
) as j on true
where e.buried is null
order by n.place, j.ordinal

-- name: functions
select name, version, timeout, retention, registered from perdure.function
where name = %(name)s order by registered, version
