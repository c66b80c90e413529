-- name: horizon
-- Transactions below it have all ended: what they wrote is visible for good. A sequence or a timestamp would let a slow writer's rows slip past.
select pg_snapshot_xmin(pg_current_snapshot())::text;

-- name: woken
-- Pools for which something happened since a position that may change what a cycle would select. What cycles and claims do themselves does not count.
select p.name as pool, sum(n)::bigint as changes from (
  select t.pool_id, count(*) as n from pipeline.transition t
   where t.xid >= cast(:after as xid8) and t.xid < cast(:horizon as xid8) and t.event not in ('select', 'claim')
   group by t.pool_id
  union all
  select e.pool_id, count(*) from pipeline.pool_event e
   where e.xid >= cast(:after as xid8) and e.xid < cast(:horizon as xid8)
     and e.kind in ('capacity_changed', 'policy_applied', 'pool_resumed', 'cycle_rolled_back', 'cycle_abandoned')
   group by e.pool_id
  union all
  select s.pool_id, count(*) from pipeline.item_state s
   where s.state = 'pending' and s.not_before > :since and s.not_before <= (select pipeline.now())
   group by s.pool_id) change
  join pipeline.pool p using (pool_id)
 where p.status = 'active' and exists (select from pipeline.item_state s where s.pool_id = p.pool_id and s.state = 'pending')
 group by p.name order by p.name;

-- name: active_pools
select name from pipeline.pool where status = 'active' order by name;

-- name: writing_pools
-- With a live owner. A lapsed cycle is finished by the next one.
select p.name from pipeline.cycle c join pipeline.pool p using (pool_id)
 where c.status in ('committing', 'rolling_back') and c.lease_until > pipeline.now() order by p.name;

-- name: backlog
select count(*) as pending, min(k.submitted_at) as oldest, extract(epoch from pipeline.now() - min(k.submitted_at))::bigint as oldest_age_s
  from pipeline.item_state s join pipeline.item_key k using (item_id)
 where s.pool_id = :pool_id and s.state = 'pending' and (s.not_before is null or s.not_before <= pipeline.now());

-- name: starving
-- What has been ready to be selected for longer than it should, and never was.
select k.key, extract(epoch from t.at - greatest(k.submitted_at, s.not_before))::bigint as waited_s
  from pipeline.item_state s join pipeline.item_key k using (item_id), (select pipeline.now() as at) t
 where s.pool_id = :pool_id and s.state = 'pending'
   and greatest(k.submitted_at, s.not_before) <= t.at - make_interval(secs => :longer_than_s)
   and not exists (select from pipeline.decision d where d.item_id = s.item_id and d.verdict = 'selected')
 order by waited_s desc, k.key limit :most;

-- name: overlooked
-- What became ready after the newest cycle was planned: how many, and for how long the first of them has waited for one.
select count(*) as items, coalesce(extract(epoch from max(w.at - w.ready_at)), 0)::bigint as oldest_age_s,
       (array_agg(w.key order by w.ready_at, w.key))[1] as first
  from (select k.key, greatest(k.submitted_at, s.not_before) as ready_at, t.at
          from pipeline.item_state s join pipeline.item_key k using (item_id), (select pipeline.now() as at) t
         where s.pool_id = :pool_id and s.state = 'pending') w
 where w.ready_at <= w.at
   and w.ready_at > coalesce((select max(c.planned_at) from pipeline.cycle c where c.pool_id = :pool_id), '-infinity');
