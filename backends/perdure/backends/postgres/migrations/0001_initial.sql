-- Executions, their journals, and everything the verbs keep beside them. Instants and spans are bigint microseconds.

-- The store's clock. It is read after a lock was obtained, and so goes on within a statement.
create function perdure.clock() returns bigint
language sql volatile parallel safe
return (extract(epoch from clock_timestamp()) * 1000000)::bigint;

-- `due` and `removal` follow from the rest: when a claim may take it, and when `purge` may remove it. What was purged
-- stays for a while as a tombstone, without a name and all that is indexed, so that its id is not used again.
-- No index has a column that changes while an owner writes its journal: those updates stay within the page.
create table perdure.execution (
    number bigint generated always as identity,
    created bigint,
    ended bigint,
    timeout bigint,
    deadline bigint,
    time_left bigint,
    retention bigint not null,
    wake bigint,
    seq_at bigint not null default 0,
    tip_at bigint not null,
    invocation_at bigint,
    effect_due bigint,
    buried bigint,
    due bigint generated always as (
        case when owner is null and ended is null and not paused and not quarantined then wake end
    ) stored,
    removal bigint generated always as (
        case when settled >= effect_last then ended + case when deleting then 0 else retention end end
    ) stored,
    length integer not null,
    seq integer not null default 0,
    seq_length integer not null default 0,
    crashes integer not null default 0,
    format integer not null,
    effect_last integer not null default 0,
    settled integer not null default 0,
    epoch integer not null default 0,
    deleting boolean not null default false,
    paused boolean not null default false,
    quarantined boolean not null default false,
    id text collate "C" primary key,
    function text collate "C" not null,
    version text collate "C" not null,
    name text collate "C",
    digest text not null,
    status text collate "C" not null default 'RUNNING',
    parent text,
    owner text collate "C",
    token text,
    tip_tag text not null,
    invocation_id text
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0.05
);

create unique index execution_name on perdure.execution (function, name) where name is not null;
create index execution_due on perdure.execution (function, version, due, id) where due is not null;
create index execution_owner on perdure.execution (owner, id) where owner is not null;
create index execution_deadline on perdure.execution (deadline, id) where deadline is not null;
create index execution_effect_due on perdure.execution (effect_due, id) where effect_due is not null;
create index execution_removal on perdure.execution (removal, id) where removal is not null;
create index execution_buried on perdure.execution (buried) where buried is not null;
-- A list of all statuses merges one after the other.
create index execution_created on perdure.execution (status, created, id) where created is not null;
create index execution_function_created on perdure.execution (function, status, created, id) where created is not null;

create table perdure.journal (
    execution bigint not null,
    at bigint not null,
    invocation_at bigint,
    ordinal integer not null,
    seen integer,
    tag text not null,
    invocation_id text,
    operation text,
    body bytea not null,
    primary key (execution, ordinal)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);

do $$
begin
    alter table perdure.journal alter column body set compression lz4;
exception when feature_not_supported then
    -- This server was built without it, and the other method costs more time than its room is worth.
    alter table perdure.journal alter column body set storage external;
end
$$;

-- `id` is the execution's id, a slash, and the operation's; `due` is the earlier of both deadlines while the await is
-- open and its execution runs. Changes are made under the lock of the execution. `secret` is a digest.
create table perdure.await (
    expires bigint,
    heartbeat bigint,
    heartbeat_due bigint,
    due bigint,
    timed_out boolean not null default false,
    id text collate "C" primary key,
    secret text not null,
    closed_by text
) with (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500
);

create index await_due on perdure.await (due, id) where due is not null;

-- Deliveries that were written within transactions of applications, which may take their time: no row of an execution
-- is locked by them. Any process carries them out.
create table perdure.inbox (
    position bigint generated always as identity primary key,
    at bigint not null,
    format integer not null,
    await text not null,
    secret text not null,
    tag text not null,
    nonce text not null,
    body bytea not null
) with (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 200
);

create table perdure.signal (
    execution bigint not null,
    key text collate "C" not null,
    primary key (execution, key)
);

-- `lock`: the key of the advisory lock that the owner's process holds in a session, so that its death shows at once;
-- `boot`: when the server was started on which it holds it.
create table perdure.lease (
    since bigint not null,
    span bigint not null,
    until bigint not null,
    number bigint not null default 0,
    lock bigint,
    boot bigint,
    reaped bigint,
    owner text collate "C" primary key
) with (
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 100
);

create index lease_living on perdure.lease (owner) where reaped is null;
create index lease_reaped on perdure.lease (reaped) where reaped is not null;

create table perdure.function (
    timeout bigint,
    retention bigint not null,
    registered bigint not null,
    name text collate "C" not null,
    version text collate "C" not null,
    primary key (name, version)
);

-- For people with a database shell: journals as text.
create view perdure.history as
select
    execution.id,
    execution.function,
    execution.name,
    journal.ordinal,
    to_timestamp(journal.at / 1000000.0) as time,
    journal.operation,
    encode(journal.body, 'escape') as entry
from perdure.journal
join perdure.execution on execution.number = journal.execution
order by journal.execution, journal.ordinal;
