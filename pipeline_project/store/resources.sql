-- name: stage
create temporary table staged_resource (line int not null, key text not null, capacity bigint not null, kind text not null) on commit drop;

-- name: lock_existing
-- In id order, as every transaction that locks resources.
select r.resource_id from pipeline.resource r join pg_temp.staged_resource s using (key)
 where r.pool_id = :pool_id order by r.resource_id for no key update of r;

-- name: refuse_change_of_kind
delete from pg_temp.staged_resource s using pipeline.resource r
 where r.pool_id = :pool_id and r.key = s.key and r.kind <> s.kind
returning s.line, s.key, r.kind as expected, s.kind as found;

-- name: refuse_below_use
delete from pg_temp.staged_resource s using pipeline.resource r
 where r.pool_id = :pool_id and r.key = s.key and s.capacity < r.in_use + r.spent
returning s.line, s.key, r.in_use + r.spent as expected, s.capacity as found;

-- name: insert_new
insert into pipeline.resource (pool_id, key, kind, capacity)
select :pool_id, key, kind, capacity from pg_temp.staged_resource order by key
on conflict (pool_id, key) do nothing returning resource_id;

-- name: record_changes
-- One event each, as of a single change; before it is made, and under the locks.
insert into pipeline.pool_event (at, pool_id, kind, actor, detail)
select (select pipeline.now()), r.pool_id, 'capacity_changed', (select pipeline.actor()),
       jsonb_build_object('resource', r.key, 'before', r.capacity, 'after', s.capacity)
  from pipeline.resource r join pg_temp.staged_resource s using (key)
 where r.pool_id = :pool_id and r.capacity <> s.capacity order by r.resource_id;

-- name: change_capacity
update pipeline.resource r set capacity = s.capacity from pg_temp.staged_resource s
 where r.pool_id = :pool_id and r.key = s.key and r.capacity <> s.capacity
returning r.key, s.capacity;

-- name: listing
select p.name as pool, r.key, r.capacity, r.in_use, r.spent, r.kind
  from pipeline.resource r join pipeline.pool p using (pool_id)
 where p.name = coalesce(:pool, p.name)
 order by p.name, r.key
 limit :most;

-- name: find
select resource_id, capacity, in_use, spent from pipeline.resource where pool_id = :pool_id and key = :key;

-- name: lock_one
select resource_id, capacity, in_use, spent from pipeline.resource where pool_id = :pool_id and key = :key for no key update;

-- name: set_capacity
update pipeline.resource set capacity = :capacity where resource_id = :resource_id;

-- name: lowest_holders
-- Unclaimed holders, worst rank first, of the newest cycle first: those that give way when capacity shrinks. From the few that hold
-- anything to their demands: an index from resource to every demand ever made would cost each import more than this ever saves.
select s.item_id, d.quantity
  from pipeline.item_state s
  join pipeline.item_demand d using (item_id, revision)
 where s.pool_id = :pool_id and s.state = 'selected' and d.resource_id = :resource_id
 order by s.cycle_id desc, s.rank desc, s.item_id desc;

-- name: utilisation
select r.key, r.capacity, r.in_use, r.spent from pipeline.resource r where r.pool_id = :pool_id
 order by (r.in_use + r.spent)::numeric / greatest(r.capacity, 1) desc, r.key limit :most;

-- name: of_keys
select key, resource_id, capacity from pipeline.resource where pool_id = :pool_id and key = any (cast(:keys as text[]));
