-- name: stage
create temporary table staged_item (
  line int not null, key text not null, weight bigint not null, payload jsonb, not_before timestamptz, expires_at timestamptz,
  bundle_key text, bundle_size int, digest bytea not null,
  item_id bigint, bundle_id bigint, fate text
) on commit drop;


-- name: prepare
-- The planner must know how much was staged before it chooses how to join it.
analyze pg_temp.staged_item;

-- name: refuse_expired
delete from pg_temp.staged_item where expires_at <= (select pipeline.now())
returning line, key, 'expires_at' as field, 'a time after ' || (select pipeline.now()) as expected, expires_at::text as found;

-- name: add_bundles
-- One whose members were all refused has no size yet.
insert into pipeline.bundle (pool_id, key, size)
select distinct on (bundle_key) :pool_id, bundle_key, bundle_size from pg_temp.staged_item where bundle_key is not null order by bundle_key, line
on conflict (pool_id, key) do update set size = excluded.size where bundle.members = 0;

-- name: lock_bundles
-- Two imports may add members to one bundle: the second waits here, and then counts the first one's.
select b.bundle_id from pipeline.bundle b
 where b.pool_id = :pool_id and b.key in (select bundle_key from pg_temp.staged_item)
 order by b.bundle_id for no key update;

-- name: resolve_items
update pg_temp.staged_item i
   set item_id = k.item_id
  from pipeline.item_key k where k.pool_id = :pool_id and k.key = i.key and i.item_id is null;

-- name: resolve_bundles
update pg_temp.staged_item i set bundle_id = b.bundle_id
  from pipeline.bundle b where b.pool_id = :pool_id and b.key = i.bundle_key;

-- name: refuse_bundles
-- A bundle is sealed when as many members came as it declared; a wrong size or a late member is refused, and with it all of this
-- file that would join the same bundle: half a bundle helps nobody.
with joining as (
  select bundle_id, count(*) as n, min(bundle_size) as smallest, max(bundle_size) as largest
    from pg_temp.staged_item where bundle_id is not null and item_id is null group by bundle_id),
bad as (
  select b.bundle_id, b.size, b.members, j.n, j.smallest, j.largest, j.smallest <> b.size or j.largest <> b.size as resized
    from joining j join pipeline.bundle b using (bundle_id)
   where b.members + j.n > b.size or j.smallest <> b.size or j.largest <> b.size)
delete from pg_temp.staged_item i using bad b where b.bundle_id = i.bundle_id and i.item_id is null
returning i.line, i.key, case when b.resized then 'bundle_size' else 'bundle_key' end as field,
  case when b.resized and i.bundle_size = b.size then 'mates in this input that declare the same size, ' || b.size
       when b.resized then 'the size the bundle was made with, ' || b.size
       when b.members = b.size then 'a bundle that is not sealed yet'
       else 'at most ' || (b.size - b.members) || ' more members' end as expected,
  case when b.resized and i.bundle_size = b.size then 'one of ' || case when b.smallest = b.size then b.largest else b.smallest end
       when b.resized then i.bundle_size::text
       when b.members = b.size then i.bundle_key || ', sealed with ' || b.size else b.n || ' more' end as found;

-- name: add_keys
-- Waits for a concurrent import of the same key, and then leaves it to that one: the key is the idempotency.
with fresh as (
  insert into pipeline.item_key (pool_id, key, submitted_at)
  select :pool_id, key, (select pipeline.now()) from pg_temp.staged_item where item_id is null order by key
  on conflict (pool_id, key) do nothing returning item_id, key)
update pg_temp.staged_item i set item_id = f.item_id, fate = 'fresh' from fresh f where f.key = i.key;

-- name: lock_known
-- In id order, bundle mates of those that change included: a bundle moves as one.
select s.item_id from pipeline.item_state s
 where s.item_id in (
   select item_id from pg_temp.staged_item where fate is null
   union
   select m.item_id from pg_temp.staged_item i join pipeline.item_state m using (bundle_id) where i.fate is null)
 order by s.item_id for no key update;

-- name: settle_fates
update pg_temp.staged_item i
   set fate = case
     when b.digest = i.digest and not (s.state = 'cancelled' and s.source_cancelled) then 'unchanged'
     when s.bundle_id is distinct from i.bundle_id then 'other bundle'
     when i.bundle_size <> (select u.size from pipeline.bundle u where u.bundle_id = i.bundle_id) then 'other size'
     when s.state in ('pending', 'selected') then 'revise'
     when s.state = 'cancelled' and s.source_cancelled and :origin = 'source' then 'revive'
     when s.state = 'quarantined' and s.detail ->> 'exceeds' is not null then 'revive'  -- put aside as too large, and now another
     else s.state::text end
  from pipeline.item_state s join pipeline.item b using (item_id, revision)
 where i.fate is null and s.item_id = i.item_id;

-- name: unsettled
-- Known keys without a hot row: they are archived.
select exists (select from pg_temp.staged_item where fate is null);

-- name: recall_returned
-- What its source cancelled, and now shows again, comes back before it is judged; so does what was put aside as too large, and now is another.
select pipeline.recall(array(
  select i.item_id from pg_temp.staged_item i join pipeline.item_history h using (item_id)
   where i.fate is null and (
       (h.state = 'cancelled' and h.source_cancelled and :origin = 'source')
       or (h.state = 'quarantined' and h.detail ->> 'exceeds' is not null and not exists (
             select from pipeline.body_history b
              where b.item_id = h.item_id and b.revision = h.revision and b.ended_at = h.ended_at and b.digest = i.digest)))
     and h.bundle_id is not distinct from i.bundle_id));

-- name: settle_archived
update pg_temp.staged_item i
   set fate = case
     when b.digest = i.digest and not (h.state = 'cancelled' and h.source_cancelled) then 'unchanged'
     when h.bundle_id is distinct from i.bundle_id then 'other bundle'
     else h.state::text end
  from pipeline.item_history h join pipeline.body_history b using (item_id, revision, ended_at)
 where i.fate is null and h.item_id = i.item_id;

-- name: refuse_fates
delete from pg_temp.staged_item where coalesce(fate, 'nowhere to be found') not in ('fresh', 'unchanged', 'revise', 'revive')
returning line, key, case fate when 'other bundle' then 'bundle_key' when 'other size' then 'bundle_size' else 'key' end as field,
  case fate when 'other bundle' then 'the bundle it was submitted with'
            when 'other size' then 'the size the bundle was made with'
            else 'a key that is new, or of a pending or selected item' end as expected,
  case fate when 'other bundle' then coalesce(bundle_key, 'none')
            when 'other size' then bundle_size::text
            else 'an item that is ' || coalesce(fate, 'nowhere to be found') end as found;

-- name: insert_bodies
-- A revision keeps the old body; the new one gets the next number.
with body as (
  insert into pipeline.item (item_id, revision, weight, payload, not_before, expires_at, digest, origin, created_at)
  select i.item_id, coalesce(s.revision, 0) + 1, i.weight, i.payload, i.not_before, i.expires_at, i.digest, :origin, (select pipeline.now())
    from pg_temp.staged_item i left join pipeline.item_state s using (item_id)
   where i.fate in ('fresh', 'revise', 'revive')
   order by i.item_id
  returning item_id, revision)
select i.line, b.item_id, b.revision from body b join pg_temp.staged_item i using (item_id) order by b.item_id;

-- name: insert_states
insert into pipeline.item_state (item_id, pool_id, bundle_id, version, revision, state, not_before, expires_at, reason)
select item_id, :pool_id, bundle_id, 1, 1, 'pending', not_before, expires_at, :reason from pg_temp.staged_item where fate = 'fresh';

-- name: count_members
update pipeline.bundle b set members = members + n
  from (select bundle_id, count(*) as n from pg_temp.staged_item where fate = 'fresh' and bundle_id is not null group by 1) j
 where j.bundle_id = b.bundle_id;

-- name: release_revised
-- A selected item that changes goes back first, and with it the rest of its bundle.
update pipeline.item_state s
   set state = 'pending', version = version + 1, cycle_id = null, rank = null, hold_until = null, reason = 'revised', detail = null
 where s.state = 'selected' and s.item_id in (
   select item_id from pg_temp.staged_item where fate = 'revise'
   union
   select m.item_id from pg_temp.staged_item i join pipeline.item_state m using (bundle_id) where i.fate = 'revise');

-- name: revive_returned
-- Mates that were put aside with one that was too large come back with it.
update pipeline.item_state s
   set state = 'pending', version = version + 1, source_cancelled = false, attempts = 0, detail = null,
       reason = case when s.state = 'cancelled' then 'back in its source' else :reason end
 where s.item_id in (
   select item_id from pg_temp.staged_item where fate = 'revive'
   union
   select m.item_id from pg_temp.staged_item i join pipeline.item_state m using (bundle_id)
    where i.fate = 'revive' and m.state = 'quarantined' and m.detail ->> 'exceeds' is not null
      and (m.expires_at is null or m.expires_at > (select pipeline.now())));

-- name: revise
update pipeline.item_state s
   set version = s.version + 1, revision = s.revision + 1, not_before = i.not_before, expires_at = i.expires_at, reason = :reason, detail = null
  from pg_temp.staged_item i where i.item_id = s.item_id and i.fate in ('revise', 'revive');

-- name: fates
select coalesce(sum(1) filter (where fate = 'fresh'), 0) as accepted, coalesce(sum(1) filter (where fate = 'unchanged'), 0) as unchanged,
       coalesce(sum(1) filter (where fate in ('revise', 'revive')), 0) as revised
  from pg_temp.staged_item;

-- name: clear
drop table pg_temp.staged_item;
