-- name: timeline
select t.at, t.version, t.event, t.from_state::text as from_state, t.to_state::text as to_state, t.revision, c.cycle_key as cycle, t.token,
       t.actor, t.session_name, t.reason, t.detail
  from pipeline.transition t left join pipeline.cycle c using (cycle_id)
 where t.item_id = :item_id order by t.version;

-- name: pool_events
select at, kind, actor, detail from pipeline.pool_event where pool_id = :pool_id order by event_id desc limit :most;
