-- name: in_memory
-- Before what follows: a hundred thousand rows are sorted where they are, not on disk.
set local work_mem = '64MB';

-- name: fates
-- What a rollback would do to each item that its cycle selected, and by which version we know that it has not moved since. From the
-- cycle's own decisions: no index leads from a cycle to what it has completed. What belongs to another cycle by now, or waits anew,
-- has moved on: its version is nothing to us.
select d.item_id,
       case when s.cycle_id = d.cycle_id then s.version else 0 end as version,
       case when s.cycle_id is distinct from d.cycle_id then 0
            when s.state = 'selected' then 1
            when s.state = 'claimed' then 2
            when s.state = 'completed' then 3
            else 4 end as fate
  from pipeline.decision d join pipeline.item_state s using (item_id)
 where d.cycle_id = :cycle_id and d.verdict = 'selected'
union all  -- archived meanwhile
select d.item_id,
       case when s.cycle_id = d.cycle_id then s.version else 0 end,
       case when s.cycle_id is distinct from d.cycle_id then 0 when s.state = 'completed' then 3 else 4 end
  from pipeline.decision_history d join pipeline.item_history s using (item_id, ended_at)
 where d.cycle_id = :cycle_id and d.verdict = 'selected'
 order by item_id;

-- name: about
-- The same items in the same order, with what a person wants to know of them.
select d.item_id, k.key, d.rank, i.weight, s.state::text as state, s.token, coalesce(s.reason, '') as reason, s.attempts,
       coalesce(e.name, '') as executor, coalesce(to_json(s.lease_until) #>> '{}', '') as lease_until
  from pipeline.decision d
  join pipeline.item_state s using (item_id)
  join pipeline.item_key k using (item_id)
  join pipeline.item i using (item_id, revision)
  left join pipeline.executor e using (executor_id)
 where d.cycle_id = :cycle_id and d.verdict = 'selected'
union all
select d.item_id, k.key, d.rank, i.weight, s.state::text, s.token, coalesce(s.reason, ''), s.attempts, '', ''
  from pipeline.decision_history d
  join pipeline.item_history s using (item_id, ended_at)
  join pipeline.item_key k using (item_id)
  join pipeline.body_history i using (item_id, revision, ended_at)
 where d.cycle_id = :cycle_id and d.verdict = 'selected'
 order by item_id;

-- name: demands
select d.item_id, d.resource_id, d.quantity
  from pipeline.decision c join pipeline.item_state s using (item_id) join pipeline.item_demand d using (item_id, revision)
 where c.cycle_id = :cycle_id and c.verdict = 'selected' and s.cycle_id = c.cycle_id
union all
select c.item_id, d.resource_id, d.quantity
  from pipeline.decision_history c
  join pipeline.item_history s using (item_id, ended_at)
  join pipeline.body_history b using (item_id, revision, ended_at),
       unnest(b.resources, b.quantities) d (resource_id, quantity)
 where c.cycle_id = :cycle_id and c.verdict = 'selected' and s.cycle_id = c.cycle_id
 order by item_id, resource_id;

-- name: resources
select key, kind, capacity, in_use from pipeline.resource
 where resource_id = any (cast(:ids as bigint[])) order by resource_id;

-- name: completed
-- What was completed of a cycle, batch by batch, with what its compensation is made of: the demands of renewable resources, as what
-- was consumed cannot be used again.
select s.item_id, k.key, s.token, i.weight, i.payload,
       coalesce((select jsonb_object_agg(r.key, m.quantity)
                   from pipeline.item_demand m join pipeline.resource r using (resource_id)
                  where m.item_id = s.item_id and m.revision = s.revision and r.kind = 'renewable'), '{}') as demands
  from pipeline.decision d
  join pipeline.item_state s on s.item_id = d.item_id and s.cycle_id = d.cycle_id
  join pipeline.item_key k on k.item_id = s.item_id
  join pipeline.item i on i.item_id = s.item_id and i.revision = s.revision
 where d.cycle_id = :cycle_id and d.verdict = 'selected' and s.state = 'completed' and d.item_id > :after
union all
select s.item_id, k.key, s.token, i.weight, i.payload,
       coalesce((select jsonb_object_agg(r.key, m.quantity)
                   from unnest(i.resources, i.quantities) m (resource_id, quantity) join pipeline.resource r using (resource_id)
                  where r.kind = 'renewable'), '{}')
  from pipeline.decision_history d
  join pipeline.item_history s on s.item_id = d.item_id and s.ended_at = d.ended_at and s.cycle_id = d.cycle_id
  join pipeline.item_key k on k.item_id = s.item_id
  join pipeline.body_history i on i.item_id = s.item_id and i.revision = s.revision and i.ended_at = s.ended_at
 where d.cycle_id = :cycle_id and d.verdict = 'selected' and s.state = 'completed' and d.item_id > :after
 order by item_id limit :most;

-- name: named
select item_id, key from pipeline.item_key where item_id = any (cast(:ids as bigint[])) order by item_id;
