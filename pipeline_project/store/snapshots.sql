-- name: eligible
-- Items a live cycle may select: pending, awake, not expired; of bundles, those whose every member is.
-- bundle_size counts the members that have to be selected together: those that were claimed before are on their way without. A member
-- that was claimed itself waits for none that is gone, cancelled or expired before its turn: nobody brings that one back.
select s.item_id, k.key, s.version, i.weight, coalesce(s.bundle_id, -1) as bundle_id, 0 as held,
       case when s.bundle_id is null then 1 else b.size - (
         select count(*) from pipeline.item_state m
          where m.bundle_id = s.bundle_id and m.state not in ('pending', 'selected') and (m.token > 0 or s.token > 0)) end as bundle_size,
       floor(extract(epoch from (select pipeline.now()) - k.submitted_at))::bigint as waited_s
  from pipeline.item_state s
  join pipeline.item_key k using (item_id)
  join pipeline.item i using (item_id, revision)
  left join pipeline.bundle b using (bundle_id)
 where s.pool_id = :pool_id and s.state = 'pending'
   and (s.not_before is null or s.not_before <= (select pipeline.now()))
   and (s.expires_at is null or s.expires_at > (select pipeline.now()))
 order by s.item_id;

-- name: demands
select d.item_id, d.resource_id, d.quantity
  from pipeline.item_state s join pipeline.item_demand d using (item_id, revision)
 where s.pool_id = :pool_id and s.state = 'pending'
 order by d.item_id, d.resource_id;

-- name: reconsidered
-- Items a reprocess decides anew: those that any cycle of the day saw, unless work on them has begun or ended. Failed and expired
-- ones count as pending: its commit revives them, if their expiry lies ahead and this policy has not revived them before. Archived ones
-- too, as far as `pipeline.recall` brings them back: none whose audit trail, or whose mate's, has left the database.
-- bundle_size as in `eligible`, where those that wait are the ones found here.
with able as materialized (
  select s.item_id, s.bundle_id, s.token, s.version, s.state, i.weight
    from pipeline.item_state s join pipeline.item i using (item_id, revision)
   where s.pool_id = :pool_id and s.item_id = any (cast(:ids as bigint[]))
     and (s.expires_at is null or s.expires_at > (select pipeline.now()))
     and (s.not_before is null or s.not_before <= (select pipeline.now()) or s.state <> 'pending')
     and (s.state = 'pending'
          or (s.state = 'selected'
              and exists (select from pipeline.cycle c where c.cycle_id = s.cycle_id and c.status = 'published' and c.day = :day))
          or (s.state in ('expired', 'failed') and not exists (
                select from pipeline.transition x
                 where x.item_id = s.item_id and x.event = 'revive' and x.detail ->> 'policy_hash' = :policy_hash)))
  union all
  select h.item_id, h.bundle_id, h.token, h.version, h.state, i.weight
    from pipeline.item_history h join pipeline.body_history i using (item_id, revision, ended_at)
   where h.pool_id = :pool_id and h.item_id = any (cast(:ids as bigint[])) and h.state in ('expired', 'failed')
     and (h.expires_at is null or h.expires_at > (select pipeline.now()))
     and not exists (
       select from pipeline.transition x
        where x.item_id = h.item_id and x.event = 'revive' and x.detail ->> 'policy_hash' = :policy_hash)
     and exists (select from pipeline.transition x where x.item_id = h.item_id and x.version = 1)
     and not exists (
       select from pipeline.item_history m
        where m.bundle_id = h.bundle_id and not exists (select from pipeline.transition x where x.item_id = m.item_id and x.version = 1)))
select a.item_id, k.key, a.version, a.weight, coalesce(a.bundle_id, -1) as bundle_id,
       case when a.bundle_id is null then 1 else b.size - (
         select count(*) from (
           select item_id, bundle_id, state, token from pipeline.item_state union all
           select item_id, bundle_id, state, token from pipeline.item_history) m
          where m.bundle_id = a.bundle_id and m.state not in ('pending', 'selected') and (m.token > 0 or a.token > 0)
            and not exists (select from able o where o.item_id = m.item_id)) end as bundle_size,
       (a.state = 'selected')::int as held, floor(extract(epoch from (select pipeline.now()) - k.submitted_at))::bigint as waited_s
  from able a
  join pipeline.item_key k using (item_id)
  left join pipeline.bundle b using (bundle_id)
 order by a.item_id;

-- name: demands_of
select d.item_id, d.resource_id, d.quantity
  from pipeline.item_state s join pipeline.item_demand d using (item_id, revision)
 where s.item_id = any (cast(:ids as bigint[]))
union all
select h.item_id, d.resource_id, d.quantity
  from pipeline.item_history h
  join pipeline.body_history b using (item_id, revision, ended_at),
       unnest(b.resources, b.quantities) d (resource_id, quantity)
 where h.item_id = any (cast(:ids as bigint[]))
 order by item_id, resource_id;

-- name: resources
select resource_id, key, capacity, capacity - in_use - spent as free from pipeline.resource where pool_id = :pool_id order by resource_id;
