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

-- name: backlog
select count(*) as pending, min(k.submitted_at) as oldest, extract(epoch from pipeline.now() - min(k.submitted_at))::bigint as oldest_age_s
  from pipeline.item_state s join pipeline.item_key k using (item_id)
 where s.pool_id = :pool_id and s.state = 'pending' and (s.not_before is null or s.not_before <= pipeline.now());
