-- What a database engineer would write for claims alone, with the fewest statements that give the same guarantees: fencing tokens,
-- published cycles only, best rank first, expiry judged at the claim, locks in id order, capacity that cannot be overdrawn, and
-- one row of audit for each move. Nothing guards the tables against other programs: no triggers, no roles.

-- name: schema
create schema bench_raw;
create table bench_raw.cycle (cycle_id bigint primary key, status text not null);
create table bench_raw.resource (
  resource_id bigint primary key, capacity bigint not null, in_use bigint not null, check (in_use between 0 and capacity)
) with (fillfactor = 50);
create table bench_raw.item (
  item_id bigint primary key, key text not null unique, payload jsonb, state text not null, cycle_id bigint, rank int, token bigint not null,
  attempts int not null, version int not null, executor text, hold_until timestamptz, lease_until timestamptz, expires_at timestamptz,
  not_before timestamptz, result jsonb
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index on bench_raw.item (rank, item_id) where state = 'selected';
create index on bench_raw.item (lease_until) where state = 'claimed';
create table bench_raw.demand (item_id bigint, resource_id bigint, quantity bigint not null, primary key (item_id, resource_id));
create table bench_raw.audit (
  seq bigint generated always as identity, at timestamptz not null default clock_timestamp(), item_id bigint not null, version int not null,
  from_state text not null, to_state text not null, token bigint not null, session_name text not null default session_user,
  actor text not null, detail jsonb
);
create index on bench_raw.audit (item_id, version);

-- name: fill
with new as (
  insert into bench_raw.item (item_id, key, payload, state, cycle_id, rank, token, attempts, version, hold_until)
  select n, 'item-' || n, '{"n": 1}', 'selected', 1, n, 0, 0, 2, now() + interval '1 day' from generate_series(1, :items) n)
insert into bench_raw.demand select n, 1 + n % :resources, 1 from generate_series(1, :items) n;
insert into bench_raw.cycle values (1, 'published');
insert into bench_raw.resource select n, :items, ceil(cast(:items as numeric) / :resources) from generate_series(1, :resources) n;
update bench_raw.resource r set in_use = (select count(*) from bench_raw.demand d where d.resource_id = r.resource_id);
analyze bench_raw.item, bench_raw.demand, bench_raw.resource;

-- name: claim
with picked as materialized (
  select i.item_id from bench_raw.item i
   where i.state = 'selected' and i.hold_until > clock_timestamp() and (i.expires_at is null or i.expires_at > clock_timestamp())
     and (i.not_before is null or i.not_before <= clock_timestamp())
     and (select c.status from bench_raw.cycle c where c.cycle_id = i.cycle_id) = 'published'
   order by i.rank, i.item_id limit %(most)s for no key update of i skip locked),
moved as (
  update bench_raw.item i
     set state = 'claimed', version = version + 1, token = token + 1, attempts = attempts + 1, executor = %(executor)s,
         lease_until = clock_timestamp() + interval '5 minutes', hold_until = null
    from picked p where i.item_id = p.item_id
  returning i.item_id, i.key, i.payload, i.token, i.version, i.lease_until, i.rank),
audited as (
  insert into bench_raw.audit (item_id, version, from_state, to_state, token, actor)
  select item_id, version, 'selected', 'claimed', token, %(executor)s from moved)
select key, token, payload, lease_until from moved order by rank, item_id;

-- name: complete
with given as (
  select i.item_id, u.token from unnest(%(keys)s::text[], %(tokens)s::bigint[]) u (key, token) join bench_raw.item i using (key)
   order by i.item_id for no key update of i),
moved as (
  update bench_raw.item i set state = 'completed', version = version + 1, lease_until = null, executor = null
    from given g where i.item_id = g.item_id and i.token = g.token and i.lease_until is not null  -- claimed; no partial index tempts the planner
  returning i.item_id, i.key, i.token, i.version),
audited as (
  insert into bench_raw.audit (item_id, version, from_state, to_state, token, actor)
  select item_id, version, 'claimed', 'completed', token, %(executor)s from moved),
back as (
  select d.resource_id, sum(d.quantity) as quantity from moved m join bench_raw.demand d using (item_id) group by d.resource_id),
locked as (
  select r.resource_id from bench_raw.resource r where r.resource_id in (select resource_id from back)
   order by r.resource_id for no key update),
freed as (
  update bench_raw.resource r set in_use = r.in_use - b.quantity
    from back b where r.resource_id = b.resource_id and (select count(*) from locked) > 0)  -- all locks first
select key, token from moved;
