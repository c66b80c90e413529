-- name: furnish
-- Resources with room for everybody: what is measured is the writing, not the choosing.
insert into pipeline.resource (pool_id, key, capacity) select :pool_id, 'r' || n, 1000000 from generate_series(1, :resources) n;

-- name: keys
insert into pipeline.item_key (pool_id, key, submitted_at)
select :pool_id, 'i' || n, (select pipeline.now()) from generate_series(1, :items) n;

-- name: bodies
insert into pipeline.item (item_id, revision, weight, expires_at, digest, origin, created_at)
select item_id, 1, 1 + hashint8(item_id)::bigint & 1023, (select pipeline.now()) + interval '1 day', '', 'producer', submitted_at
  from pipeline.item_key where pool_id = :pool_id;

-- name: demands
-- Scattered, and the same in every run.
insert into pipeline.item_demand (item_id, revision, resource_id, quantity)
select k.item_id, 1, r.first + (hashint8extended(k.item_id, d) & 9223372036854775807) % :resources, 1
  from pipeline.item_key k, generate_series(1, :demands) d, (select min(resource_id) as first from pipeline.resource where pool_id = :pool_id) r
 where k.pool_id = :pool_id
on conflict do nothing;

-- name: states
insert into pipeline.item_state (item_id, pool_id, version, revision, state, expires_at, reason)
select item_id, pool_id, 1, 1, 'pending', (select pipeline.now()) + interval '1 day', 'bench'
  from pipeline.item_key where pool_id = :pool_id;

-- name: raw_tables
-- The same columns, constraints, indexes and fill factors, but no triggers: what they do, the statements below do.
drop schema if exists raw cascade;
create schema raw;
create table raw.item_state (like pipeline.item_state including all) with (fillfactor = 70);
create table raw.resource (like pipeline.resource including all) with (fillfactor = 50);
create table raw.transition (like pipeline.transition including all);
create table raw.decision (like pipeline.decision including all);
create table raw.cycle_chunk (like pipeline.cycle_chunk including all);
create table raw.cycle (cycle_id bigint primary key, fence bigint not null, status text not null, lease_until timestamptz);
grant usage on schema raw to pipeline_writer;
grant all on all tables in schema raw to pipeline_writer;
grant usage on sequence pipeline.transition_seq to pipeline_writer;

-- name: raw_fill
insert into raw.item_state select * from pipeline.item_state;
insert into raw.resource overriding system value select * from pipeline.resource;
insert into raw.cycle values (1, 1, 'committing', null);

-- name: raw_versions
select version from raw.item_state where item_id = any (cast(:ids as bigint[])) order by item_id;

-- name: raw_fence
update raw.cycle set lease_until = pipeline.now() + interval '1 minute'
 where cycle_id = 1 and fence = 1 and status = 'committing'
   and not exists (select from raw.cycle_chunk where cycle_id = 1 and chunk = :chunk)
returning cycle_id;

-- name: raw_lock_items
-- In id order. A row that was waited for is judged as it is then.
select array_agg(item_id) from (
  select s.item_id from raw.item_state s join unnest(cast(:ids as bigint[]), cast(:versions as bigint[])) u (item_id, version) using (item_id)
   where s.item_id = any (cast(:ids as bigint[])) and s.state = 'pending' and s.version = u.version
     and (s.expires_at is null or s.expires_at > (select pipeline.now()))
   order by s.item_id for no key update of s) locked;

-- name: raw_lock_resources
-- In id order, after the items; what is free of them is read by the next statement.
select count(*) from (
  select from raw.resource where resource_id in (
    select resource_id from pipeline.item_demand where item_id = any (cast(:fresh as bigint[])) and revision = 1)
   order by resource_id for no key update) locked;

-- name: raw_decide
-- Best rank first where a resource has no room for all; then moves, audit, decisions, counters and ledger in one statement.
with want as materialized (
  select u.item_id, u.version, u.rank, u.weight
    from unnest(cast(:ids as bigint[]), cast(:versions as bigint[]), cast(:ranks as bigint[]), cast(:weights as bigint[]))
         u (item_id, version, rank, weight)),
need as materialized (
  select d.item_id, d.resource_id, d.quantity from pipeline.item_demand d
   where d.item_id = any (cast(:fresh as bigint[])) and d.revision = 1),
total as materialized (select resource_id, sum(quantity) as quantity from need group by resource_id),
short as materialized (
  select t.resource_id, r.capacity - r.in_use - r.spent as free from total t join raw.resource r using (resource_id)
   where t.quantity > r.capacity - r.in_use - r.spent),
unfit as materialized (
  select distinct item_id from (
    select n.item_id, sum(n.quantity) over (partition by n.resource_id order by w.rank) > s.free as over
      from need n join short s using (resource_id) join want w using (item_id)) judged
   where over),
moved as (
  update raw.item_state s
     set state = 'selected', version = s.version + 1, cycle_id = 1, rank = w.rank, not_before = null,
         hold_until = (select pipeline.now()) + interval '1 hour', reason = 'selected', detail = null
    from want w
   where s.item_id = w.item_id and s.item_id = any (cast(:fresh as bigint[])) and s.item_id not in (select item_id from unfit)
  returning s.item_id, s.version, s.revision, s.pool_id, s.token),
audited as (
  insert into raw.transition (at, item_id, cycle_id, token, pool_id, version, revision, from_state, to_state, event, actor, reason)
  select (select pipeline.now()), item_id, 1, token, pool_id, version, revision, 'pending', 'selected', 'select', 'raw', 'selected' from moved),
decided as (
  insert into raw.decision (cycle_id, item_id, verdict, rank, version, weight)
  select 1, w.item_id,
         case when m.item_id is not null then 'selected' when u.item_id is not null then 'nofit' else 'stale' end, w.rank, w.version, w.weight
    from want w left join moved m using (item_id) left join unfit u using (item_id)),
taken as (
  update raw.resource r set in_use = r.in_use + t.quantity
    from (select n.resource_id, sum(n.quantity) as quantity from need n where n.item_id not in (select item_id from unfit) group by 1) t
   where t.resource_id = r.resource_id)
insert into raw.cycle_chunk (cycle_id, chunk, selected, stale, nofit, value, released)
select 1, :chunk, count(m.item_id), count(*) - count(m.item_id) - (select count(*) from unfit), (select count(*) from unfit),
       coalesce(sum(w.weight) filter (where m.item_id is not null), 0), 0
  from want w left join moved m using (item_id);
