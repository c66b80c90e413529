-- name: timeline
select t.at, t.version, t.event, t.from_state::text as from_state, t.to_state::text as to_state, t.revision, c.cycle_key as cycle, t.token,
       t.actor, t.session_name, t.reason, t.detail
  from pipeline.transition t left join pipeline.cycle c using (cycle_id)
 where t.item_id = :item_id order by t.version;

-- name: beside
-- What happened to the pool while the item lived, and mattered to it: pauses and policies, its own cycles, capacities of what it demands.
select e.at, e.kind, e.actor, e.session_name, c.cycle_key as cycle, e.detail
  from pipeline.pool_event e
  left join pipeline.cycle c on c.cycle_id = (e.detail ->> 'cycle_id')::bigint
 where e.pool_id = :pool_id
   and e.at >= :since and e.at <= coalesce(cast(:until as timestamptz), 'infinity')
   and case
         when e.kind like 'cycle\_%' then c.cycle_id in (
           select t.cycle_id from pipeline.transition t where t.item_id = :item_id
           union all select d.cycle_id from pipeline.decision_history d where d.item_id = :item_id)  -- its month may have left
         when e.kind = 'capacity_changed' and e.detail ? 'resource' then e.detail ->> 'resource' in (
           select r.key from pipeline.item_demand d join pipeline.resource r using (resource_id) where d.item_id = :item_id
           union all
           select r.key from pipeline.body_history h join pipeline.resource r on r.resource_id = any (h.resources) where h.item_id = :item_id)
         else true
       end
 order by e.at, e.event_id;

-- name: pool_events
select at, kind, actor, detail from pipeline.pool_event where pool_id = :pool_id order by event_id desc limit :most;
