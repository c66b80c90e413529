-- A large store, made in sets and without its triggers, in which every promise holds: nearly everything has been completed, the newest
-- items are selected, a few of them pending or claimed. Only columns that the first version of the schema has.

-- name: clock
insert into pipeline.clock (at) values ('2026-01-15 12:00+00');

-- name: pool
insert into pipeline.pool (name, created_at) values ('bench', pipeline.now());

-- name: policy
insert into pipeline.policy (pool_id, version, hash, document, actor, created_at) values (1, 1, 'h', '{}', 'bench', pipeline.now());

-- name: executor
insert into pipeline.executor (pool_id, name, seen_at) values (1, 'e', pipeline.now());

-- name: resources
insert into pipeline.resource (pool_id, key, capacity) select 1, 'r' || n, 1000000 from generate_series(1, 20000) n;

-- name: cycles
insert into pipeline.cycle (pool_id, policy_id, cycle_key, mode, day, status, engine_version, artifact,
                            items, value, upper_bound, proposed, certificate, planned_at, published_at)
select 1, 1, 'k' || n, 'live', '2026-01-15', 'published', '1', '', 100, 1, 1, 100, '{}', at, at
  from (select n, pipeline.now() - (:items - n * 100 + 200) * interval '1 second' as at from generate_series(1, :items / 100 + 1) n) c;

-- name: bundles
insert into pipeline.bundle (bundle_id, pool_id, key, size, members) overriding system value
select n, 1, 'b' || n, 2, 2 from generate_series(1, :items / 100 - 1) n;

-- name: keys
insert into pipeline.item_key (pool_id, key, submitted_at)
select 1, 'i' || n, pipeline.now() - (:items - n + 200) * interval '1 second' from generate_series(1, :items) n;

-- name: bodies
insert into pipeline.item (item_id, revision, weight, payload, digest, origin, created_at)
select n, 1, n, '{"work": "a small payload of some eighty bytes, as it might be in life"}', '', 'producer', pipeline.now()
  from generate_series(1, :items) n;

-- name: demands
insert into pipeline.item_demand select n, 1, 1 + (n * 7 + d) % 20000, 1 from generate_series(1, :items) n, generate_series(1, 2) d;

-- name: states
insert into pipeline.item_state (item_id, pool_id, version, revision, token, attempts, bundle_id, expires_at, state, cycle_id, rank,
                                 hold_until, lease_until, executor_id, not_before)
select n, 1, case state when 'completed' then 4 when 'claimed' then 3 when 'selected' then 2 else 1 end, 1,
       (state in ('completed', 'claimed'))::int, (state in ('completed', 'claimed'))::int,
       case when n % 100 < 2 and n >= 100 and n < :items then n / 100 end, case when n % 2 = 0 then later end, state,
       case when state <> 'pending' then 1 + n / 100 end, case when state <> 'pending' then n end,
       case state when 'selected' then later end, case state when 'claimed' then later end, case state when 'claimed' then 1 end,
       case when state = 'pending' and n % 9 = 0 then later end
  from (select n, pipeline.now() + n * interval '1 second' as later,
               (case when n <= :items - :live then 'completed'
                     when n % 300 = 0 then 'pending'
                     when n % 300 = 1 then 'claimed' else 'selected' end)::pipeline.state as state
          from generate_series(1, :items) n) made;

-- name: transitions
insert into pipeline.transition (at, item_id, cycle_id, token, pool_id, version, revision, from_state, to_state, event, actor, reason)
select at + (v - 1) * interval '1 second', n, case when v > 1 then 1 + n / 100 end, (v > 2)::int, 1, v, 1,
       (array[null, 'pending', 'selected', 'claimed'])[v]::pipeline.state,
       (array['pending', 'selected', 'claimed', 'completed'])[v]::pipeline.state,
       (array['submit', 'select', 'claim', 'complete'])[v], 'bench', 'as measured'
  from (select n, pipeline.now() - (:items - n + 100) * interval '1 second' as at from generate_series(1, :items) n) made
  cross join generate_series(1, 4) v
 where v <= case when n <= :items - :live then 4 when n % 300 = 0 then 1 when n % 300 = 1 then 3 else 2 end;

-- name: decisions
insert into pipeline.decision (cycle_id, item_id, verdict, rank, version, weight)
select 1 + n / 100, n, 'selected', n, 1, n from generate_series(1, :items) n where n <= :items - :live or n % 300 <> 0;

-- name: in_use
update pipeline.resource r set in_use = h.held
  from (select resource_id, sum(quantity) as held from pipeline.hold group by 1) h where h.resource_id = r.resource_id;
