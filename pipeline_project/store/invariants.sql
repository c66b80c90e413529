-- Each query returns the rows that break a promise: none, on a healthy database. `pipeline db check --full` runs them as they stand.
-- An incremental check looks at items that have moved: it puts their ids in the place of each `true /* of COLUMN */`. Without such a
-- place a query looks at what is held now, which is little, and always runs whole; but one that adds up all that ever was is left to the full check.

-- name: over_allocated
select r.resource_id, r.key, r.capacity, sum(h.quantity) as held, r.spent
  from pipeline.resource r join pipeline.hold h using (resource_id)
 group by r.resource_id having sum(h.quantity) + r.spent > r.capacity;

-- name: in_use_drifted
select r.resource_id, r.key, r.in_use, coalesce(h.held, 0) as held
  from pipeline.resource r
  left join (select resource_id, sum(quantity) as held from pipeline.hold group by 1) h using (resource_id)
 where r.in_use <> coalesce(h.held, 0);

-- name: spent_drifted
-- Whoever is archived has spent it all the same.
select r.resource_id, r.key, r.spent, coalesce(d.used, 0) as used
  from pipeline.resource r
  left join (select u.resource_id, sum(u.quantity) as used
               from (select d.resource_id, d.quantity
                       from pipeline.item_state s join pipeline.item_demand d using (item_id, revision)
                      where s.state = 'completed'
                     union all
                     select d.resource_id, d.quantity
                       from pipeline.item_history h join pipeline.body_history b using (item_id, revision, ended_at),
                            unnest(b.resources, b.quantities) d (resource_id, quantity)
                      where h.state = 'completed') u group by 1) d using (resource_id)
 where r.spent <> case r.kind when 'consumable' then coalesce(d.used, 0) else 0 end;

-- name: part_of_a_bundle_selected
-- Before any claim a bundle is selected whole or not at all.
select s.bundle_id, count(*) filter (where s.state = 'selected') as selected, count(*) as members
  from pipeline.item_state s
 where s.bundle_id is not null and true /* of bundle s.bundle_id */
 group by s.bundle_id
having count(*) filter (where s.state = 'selected') > 0 and count(*) filter (where s.state = 'pending') > 0
   and count(*) filter (where s.token > 0) = 0;

-- name: bundle_members_miscounted
select b.bundle_id, b.key, b.members, count(s.item_id) as found
  from pipeline.bundle b
  left join (select bundle_id, item_id from pipeline.item_state where bundle_id is not null
             union all
             select bundle_id, item_id from pipeline.item_history where bundle_id is not null) s using (bundle_id)
 where true /* of bundle b.bundle_id */
 group by b.bundle_id having b.members <> count(s.item_id);

-- name: state_not_last_transition
select s.item_id, s.state, s.version, t.to_state, t.version as audited
  from pipeline.item_state s
  left join (select distinct on (item_id) item_id, version, to_state, token from pipeline.transition
              where true /* of item_id */
              order by item_id, version desc) t using (item_id)
 where true /* of s.item_id */ and (t.item_id is null or t.to_state <> s.state or t.version <> s.version or t.token <> s.token);

-- name: versions_with_gaps
-- Of an item that is older than the audit trail in this database, only what is here has to be without a gap.
select t.item_id, count(*) as transitions, min(t.version) as first, max(t.version) as last
  from pipeline.transition t
 where true /* of t.item_id */
 group by t.item_id
having count(*) <> max(t.version) - min(t.version) + 1 or count(distinct t.version) <> count(*)
    or (min(t.version) <> 1 and not exists (
          select from pipeline.item_key k where k.item_id = t.item_id and k.submitted_at < (select pipeline.audit_begins())));

-- name: chain_broken
select item_id, version, from_state, previous from (
  select item_id, version, from_state, lag(to_state) over (partition by item_id order by version) as previous,
         lag(version) over (partition by item_id order by version) as behind
    from pipeline.transition where true /* of item_id */) t
 where from_state is distinct from previous and (behind is not null or version = 1);

-- name: illegal_move
select item_id, version, from_state, to_state, event from pipeline.transition
 where (event is distinct from pipeline.event_of(from_state, to_state) or from_state = 'completed') and true /* of item_id */;

-- name: completed_twice
select item_id, count(*) as completions from pipeline.transition
 where to_state = 'completed' and true /* of item_id */
 group by item_id having count(*) > 1;

-- name: selected_without_decision
select t.item_id, t.cycle_id, t.version from pipeline.transition t
 where t.event = 'select' and true /* of t.item_id */
   and not exists (select from pipeline.decision d where d.cycle_id = t.cycle_id and d.item_id = t.item_id and d.verdict = 'selected')
   and not exists (select from pipeline.decision_history d where d.cycle_id = t.cycle_id and d.item_id = t.item_id and d.verdict = 'selected');

-- name: decision_without_transition
select d.cycle_id, d.item_id from pipeline.decision d
 where d.verdict = 'selected' and true /* of d.item_id */
   and not exists (select from pipeline.transition t where t.item_id = d.item_id and t.cycle_id = d.cycle_id and t.event = 'select');

-- name: stale_token_accepted
select item_id, version, event, token, previous from (
  select item_id, version, event, from_state, token, lag(token) over (partition by item_id order by version) as previous
    from pipeline.transition where true /* of item_id */) t
 where (event = 'claim' and token <= previous) or (event <> 'claim' and token <> coalesce(previous, case when version = 1 then 0 else token end));

-- name: closed_cycle_still_holds
select s.item_id, s.cycle_id, c.status from pipeline.item_state s join pipeline.cycle c using (cycle_id)
 where (c.status in ('abandoned', 'planned') and s.state in ('selected', 'claimed')) or (c.status = 'rolled_back' and s.state = 'selected');

-- name: selected_after_expiry
select t.item_id, t.version, t.at, i.expires_at
  from pipeline.transition t
  join (select item_id, revision, expires_at from pipeline.item where expires_at is not null and true /* of item_id */
        union all
        select item_id, revision, expires_at from pipeline.body_history where expires_at is not null and true /* of item_id */) i
    using (item_id, revision)
 where t.event = 'select' and i.expires_at < t.at and true /* of t.item_id */;

-- name: claimed_from_unpublished_cycle
select t.item_id, t.version, t.cycle_id, t.at, c.published_at from pipeline.transition t join pipeline.cycle c using (cycle_id)
 where t.event = 'claim' and (c.published_at is null or c.published_at > t.at) and true /* of t.item_id */;

-- name: held_without_cycle
select s.item_id, s.cycle_id from pipeline.item_state s left join pipeline.cycle c using (cycle_id)
 where s.state in ('selected', 'claimed') and c.cycle_id is null;

-- name: demand_without_resource
select d.item_id, d.revision, d.resource_id from pipeline.item_demand d
  join pipeline.item_key k using (item_id) left join pipeline.resource r on r.resource_id = d.resource_id and r.pool_id = k.pool_id
 where r.resource_id is null and true /* of d.item_id */;

-- name: state_without_body
select s.item_id, s.revision from pipeline.item_state s left join pipeline.item i using (item_id, revision)
 where i.item_id is null and true /* of s.item_id */
union all
select h.item_id, h.revision from pipeline.item_history h left join pipeline.body_history i using (item_id, revision, ended_at)
 where i.item_id is null and true /* of h.item_id */;

-- name: key_without_state
select k.item_id, k.key from pipeline.item_key k
 where not exists (select from pipeline.item_state s where s.item_id = k.item_id)
   and not exists (select from pipeline.item_history h where h.item_id = k.item_id) and true /* of k.item_id */;

-- name: rest_without_state
-- Archiving takes an item whole: no body, demand or decision stays behind.
select 'body' as what, i.item_id as id from pipeline.item i
 where not exists (select from pipeline.item_state s where s.item_id = i.item_id) and true /* of i.item_id */
union all
select 'demand', d.item_id from pipeline.item_demand d
 where not exists (select from pipeline.item_state s where s.item_id = d.item_id) and true /* of d.item_id */
union all
select 'decision', d.item_id from pipeline.decision d
 where not exists (select from pipeline.item_state s where s.item_id = d.item_id) and true /* of d.item_id */;

-- name: archived_twice
select h.item_id, h.ended_at from pipeline.item_history h
 where true /* of h.item_id */
   and (exists (select from pipeline.item_state s where s.item_id = h.item_id)
        or exists (select from pipeline.item_history o where o.item_id = h.item_id and o.ended_at <> h.ended_at));

-- name: archived_not_last_transition
-- As far as the audit trail is in this database.
select h.item_id, h.state, h.version, t.to_state, t.version as audited
  from pipeline.item_history h
  left join (select distinct on (item_id) item_id, version, to_state, token, at from pipeline.transition
              where true /* of item_id */
              order by item_id, version desc) t using (item_id)
 where h.ended_at >= (select pipeline.audit_begins()) and true /* of h.item_id */
   and (t.item_id is null or t.to_state <> h.state or t.version <> h.version or t.token <> h.token or t.at <> h.ended_at);

-- name: negative_number
select 'item' as what, item_id as id from pipeline.item where weight < 0 and true /* of item_id */
union all select 'demand', item_id from pipeline.item_demand where quantity < 1 and true /* of item_id */
union all select 'resource', resource_id from pipeline.resource where capacity < 0 or in_use < 0 or spent < 0;

-- name: audit_partition_missing
-- Rows in the DEFAULT partition: nobody made the month's partition ahead (the sweep does).
select seq, at from pipeline.transition_default;

-- name: state_not_replayed
-- The trail alone, replayed, against the present: what `state_not_last_transition` does not compare. A version for each transition,
-- a token for each claim, a revision for each revise; the cycle of the last move, unless that gave the item back.
with folded as (
  select item_id, count(*) as version, count(*) filter (where event = 'claim') as token, 1 + count(*) filter (where event = 'revise') as revision,
         max(version) as last
    from pipeline.transition where true /* of item_id */ group by item_id)
select s.item_id, s.state, s.version, s.token, s.revision, s.cycle_id, f.version as replayed_version, f.token as replayed_token,
       f.revision as replayed_revision, l.to_state as replayed_state, case when l.to_state <> 'pending' then l.cycle_id end as replayed_cycle
  from pipeline.item_state s
  left join folded f using (item_id)
  left join pipeline.transition l on l.item_id = f.item_id and l.version = f.last
 where true /* of s.item_id */
   and ((s.state, s.version, s.token, s.revision) is distinct from (l.to_state, f.version::int, f.token, f.revision::int)
        or s.cycle_id is distinct from case when l.to_state <> 'pending' then l.cycle_id end);

-- name: resource_not_replayed
-- What each move of the items at hand took and gave back, summed from the trail alone; their trail is whole. Archived items hold nothing,
-- and what they spent is added.
with moved as (
  select d.resource_id,
         sum(case when t.to_state in ('selected', 'claimed') then d.quantity else -d.quantity end) as in_use,
         sum(d.quantity) filter (where t.to_state = 'completed') as spent
    from pipeline.transition t
    join pipeline.item_demand d using (item_id, revision)
   where (t.to_state in ('selected', 'claimed')) <> coalesce(t.from_state in ('selected', 'claimed'), false)
   group by d.resource_id)
select r.resource_id, r.key, r.in_use, r.spent, coalesce(m.in_use, 0) as replayed_in_use, coalesce(m.spent, 0) + coalesce(a.spent, 0) as replayed_spent
  from pipeline.resource r left join moved m using (resource_id) left join pipeline.archived_spent a using (resource_id)
 where r.in_use <> coalesce(m.in_use, 0)
    or r.spent <> case r.kind when 'consumable' then coalesce(m.spent, 0) + coalesce(a.spent, 0) else 0 end;
