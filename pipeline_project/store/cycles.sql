-- name: latest
-- The newest attempt at a cycle key, or at each of the two newest keys that begin so.
select c.*, p.name as pool, y.version as policy_version, y.hash as policy_hash
  from pipeline.cycle c join pipeline.pool p using (pool_id) join pipeline.policy y using (policy_id)
 where c.cycle_key like :prefix and p.name = coalesce(:pool, p.name)
   and not exists (select from pipeline.cycle n where n.pool_id = c.pool_id and n.cycle_key = c.cycle_key and n.attempt > c.attempt)
 order by c.cycle_id desc limit 2;

-- name: lock_latest
-- The cycle's row is the first lock of whoever changes anything on its behalf.
select c.*, p.name as pool
  from pipeline.cycle c join pipeline.pool p using (pool_id)
 where c.pool_id = :pool_id and c.cycle_key = :cycle_key
 order by c.attempt desc limit 1 for no key update of c;

-- name: lock
select * from pipeline.cycle where cycle_id = :cycle_id for no key update;

-- name: plan
-- Two planners of the same world: the second finds the first one's row and uses it.
insert into pipeline.cycle (pool_id, policy_id, cycle_key, attempt, mode, day, engine_version, artifact, items, value, upper_bound,
                            proposed, certificate, planned_at)
values (:pool_id, :policy_id, :cycle_key, :attempt, :mode, :day, :engine_version, :artifact, :items, :value, :upper_bound,
        :proposed, cast(:certificate as jsonb), pipeline.now())
on conflict (pool_id, cycle_key, attempt) do nothing;

-- name: begin
-- The partial unique index admits one committing cycle a pool; the fence grows, so that an owner who was thought dead and is not
-- finds its fence gone and stops.
update pipeline.cycle
   set status = 'committing', owner = :owner, fence = fence + 1, lease_until = pipeline.now() + make_interval(secs => :lease_s),
       committing_at = coalesce(committing_at, pipeline.now())
 where cycle_id = :cycle_id
returning fence;

-- name: take_over
update pipeline.cycle set owner = :owner, fence = fence + 1, lease_until = pipeline.now() + make_interval(secs => :lease_s)
 where cycle_id = :cycle_id
returning fence;

-- name: hold_fence
-- Every chunk begins here: the owner shows its fence and gets its lease prolonged in one.
update pipeline.cycle set lease_until = pipeline.now() + make_interval(secs => :lease_s)
 where cycle_id = :cycle_id and fence = :fence and status = cast(:status as pipeline.cycle_status)
returning cycle_id;

-- name: let_go
update pipeline.cycle set lease_until = pipeline.now()
 where cycle_id = :cycle_id and fence = :fence and status in ('committing', 'rolling_back');

-- name: in_flight
select c.cycle_id, c.cycle_key, c.status, c.owner, c.reason, c.hold_s, c.compensate, c.lease_until, c.lease_until <= pipeline.now() as lapsed, p.name as pool
  from pipeline.cycle c join pipeline.pool p using (pool_id)
 where c.status in ('committing', 'rolling_back') and p.pool_id = coalesce(:pool_id, p.pool_id)
 order by c.cycle_id;

-- name: chunk
select * from pipeline.cycle_chunk where cycle_id = :cycle_id and chunk = :chunk;

-- name: add_chunk
insert into pipeline.cycle_chunk (cycle_id, chunk, selected, stale, nofit, value, released)
values (:cycle_id, :chunk, :selected, :stale, :nofit, :value, :released);

-- name: publish
-- One row flips, and executors see everything the commit wrote, in however many transactions.
update pipeline.cycle c
   set status = 'published', published_at = pipeline.now(), lease_until = null,
       selected = t.selected, stale = t.stale, nofit = t.nofit, committed_value = t.value, changed = t.selected + t.released,
       deferred = c.items - c.proposed
  from (select coalesce(sum(selected), 0) as selected, coalesce(sum(stale), 0) as stale, coalesce(sum(nofit), 0) as nofit,
               coalesce(sum(value), 0) as value, coalesce(sum(released), 0) as released
          from pipeline.cycle_chunk where cycle_id = :cycle_id) t
 where c.cycle_id = :cycle_id and c.fence = :fence and c.status = 'committing'
returning c.cycle_id;

-- name: close
update pipeline.cycle
   set status = cast(:status as pipeline.cycle_status), closed_at = pipeline.now(), lease_until = null, reason = :reason
 where cycle_id = :cycle_id;

-- name: begin_rollback
update pipeline.cycle
   set status = 'rolling_back', owner = :owner, fence = fence + 1, lease_until = pipeline.now() + make_interval(secs => :lease_s),
       reason = :reason, hold_s = :hold_s, compensate = :compensate
 where cycle_id = :cycle_id
returning fence;

-- name: forget_plans
-- Plans that no one committed within a day describe a world that is gone.
update pipeline.cycle set status = 'abandoned', closed_at = pipeline.now(), reason = 'planned, never committed'
 where status = 'planned' and planned_at < pipeline.now() - interval '1 day'
returning cycle_id;

-- name: listing
select c.cycle_id, c.cycle_key as cycle, p.name as pool, c.attempt, c.mode, c.day, c.status, c.items, c.value, c.upper_bound,
       c.committed_value, c.selected, c.deferred, c.stale, c.nofit, c.planned_at, c.published_at
  from pipeline.cycle c join pipeline.pool p using (pool_id)
 where p.name = coalesce(:pool, p.name)
 order by c.cycle_id desc limit :most;

-- name: of_day
-- Whose snapshots a reprocess of the day looks into.
select cycle_key from pipeline.cycle
 where pool_id = :pool_id and day = :day and status in ('published', 'rolled_back') order by cycle_id;

-- name: keys_before
-- Every attempt at the key has ended long ago, and no item is still held by it. Those whose artifacts went before are not looked at again.
select cycle_key from pipeline.cycle c
 where pool_id = :pool_id and not artifact_dropped and status not in ('committing', 'rolling_back')
 group by cycle_key
having max(coalesce(published_at, closed_at, planned_at)) < (select pipeline.now()) - make_interval(secs => :age_s)
   and not exists (
     select from pipeline.decision d
       join pipeline.item_state s on s.item_id = d.item_id and s.cycle_id = d.cycle_id and s.state in ('selected', 'claimed')
      where d.cycle_id = any (array_agg(c.cycle_id)) and d.verdict = 'selected');

-- name: difference
-- What the cycle changed of what was there before: a live one only adds.
select count(*) filter (where verdict = 'selected') as newly_selected, count(*) filter (where verdict = 'released') as freed,
       coalesce(sum(weight) filter (where verdict = 'selected'), 0)::bigint as gained,
       coalesce(sum(weight) filter (where verdict = 'released'), 0)::bigint as lost
  from pipeline.decided where cycle_id = :cycle_id;

-- name: superseded
-- Whose selections the cycle took back: of each item it released, the newest earlier cycle that had selected it.
select c.cycle_key as cycle, c.day, c.mode, c.owner, count(*) as items
  from pipeline.decided d
 cross join lateral (select e.cycle_id from pipeline.decided e
                      where e.item_id = d.item_id and e.cycle_id < d.cycle_id and e.verdict = 'selected'
                      order by e.cycle_id desc limit 1) earlier
  join pipeline.cycle c on c.cycle_id = earlier.cycle_id
 where d.cycle_id = :cycle_id and d.verdict = 'released'
 group by c.cycle_id order by c.cycle_id;

-- name: moved
-- Items the cycle selected anew, or took back, the worthiest first.
select k.key as item, d.weight from pipeline.decided d join pipeline.item_key k using (item_id)
 where d.cycle_id = :cycle_id and d.verdict = :verdict order by d.weight desc, d.item_id limit :most;

-- name: outcomes
-- What became of what the cycle selected; 'elsewhere' = another cycle has selected it since, or it was released.
select case when s.cycle_id = d.cycle_id then s.state::text else 'elsewhere' end as state, count(*) as items
  from pipeline.decided d
  join (select item_id, cycle_id, state from pipeline.item_state union all
        select item_id, cycle_id, state from pipeline.item_history) s using (item_id)
 where d.cycle_id = :cycle_id and d.verdict = 'selected' group by 1 order by 1;

-- name: published_by
-- The cycle's row names its last owner, who may have rolled it back since. Nobody asks this often: no index on detail.
select actor from pipeline.pool_event
 where pool_id = :pool_id and kind = 'cycle_published' and detail @> jsonb_build_object('cycle_id', cast(:cycle_id as bigint))
 order by event_id desc limit 1;

-- name: artifact_dropped
update pipeline.cycle set artifact_dropped = true where pool_id = :pool_id and cycle_key = :cycle_key;

-- name: database_today
select (pipeline.now() at time zone :timezone)::date;

-- name: now
select pipeline.now();

-- name: advance_clock
select pipeline.advance_clock(:until);
