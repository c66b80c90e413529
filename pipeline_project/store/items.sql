-- name: find
select s.*, k.key, k.submitted_at, i.weight, i.payload, i.origin, b.key as bundle_key, b.size as bundle_size,
       c.cycle_key, c.status as cycle_status, e.name as executor, null::timestamptz as archived_at
  from pipeline.item_key k
  join pipeline.item_state s using (item_id)
  join pipeline.item i using (item_id, revision)
  left join pipeline.bundle b using (bundle_id)
  left join pipeline.cycle c using (cycle_id)
  left join pipeline.executor e using (executor_id)
 where k.pool_id = :pool_id and k.key = :key;

-- name: demands
select r.key, d.quantity, r.capacity, r.in_use, r.spent
  from pipeline.item_demand d join pipeline.resource r using (resource_id)
 where d.item_id = :item_id and d.revision = :revision order by r.key;

-- name: listing
select k.key, s.state, i.weight, s.version, s.attempts, s.rank, s.not_before, s.expires_at, s.reason
  from pipeline.item_state s join pipeline.item_key k using (item_id) join pipeline.item i using (item_id, revision)
 where s.pool_id = :pool_id and s.state = coalesce(cast(:state as pipeline.state), s.state)
 order by s.item_id
 limit :most;

-- name: counts
select state, count(*) as n from pipeline.item_state where pool_id = :pool_id group by state order by state;

-- name: ids_of
select k.key, k.item_id from pipeline.item_key k where k.pool_id = :pool_id and k.key = any (cast(:keys as text[]));

-- name: lock
-- These items and their bundle mates, as a bundle moves as one. Who is whose mate never changes, so it may be read before the locks.
-- In id order, so that two transactions can never wait for each other. NO KEY: a plain FOR UPDATE collides with foreign-key locks.
select item_id from pipeline.item_state
 where item_id = any (array(
   select unnest(cast(:ids as bigint[]))
   union
   select m.item_id from pipeline.item_state s join pipeline.item_state m using (bundle_id)
    where s.item_id = any (cast(:ids as bigint[]))))
 order by item_id for no key update;

-- name: release
update pipeline.item_state
   set state = 'pending', version = version + 1, cycle_id = null, rank = null, hold_until = null,
       not_before = greatest(not_before, cast(:not_before as timestamptz)), reason = :reason, detail = null
 where item_id = any (cast(:ids as bigint[])) and state = 'selected'
returning item_id;

-- name: cancel
update pipeline.item_state
   set state = 'cancelled', version = version + 1, rank = null, hold_until = null, lease_until = null, executor_id = null,
       reason = :reason, detail = null
 where item_id = any (cast(:ids as bigint[])) and state in ('pending', 'selected', 'claimed')
returning item_id;

-- name: cancel_pending
update pipeline.item_state
   set state = 'cancelled', version = version + 1, source_cancelled = true, reason = :reason, detail = null
 where item_id = any (cast(:ids as bigint[])) and state = 'pending'
returning item_id;

-- name: expire
-- Judged again under the locks, as one may have been prolonged while we waited for them. A bundle goes with the first of its members.
update pipeline.item_state s
   set state = 'expired', version = version + 1, rank = null, hold_until = null, reason = 'expires_at passed', detail = null
 where s.item_id = any (cast(:ids as bigint[])) and s.state in ('pending', 'selected')
   and (s.expires_at <= (select pipeline.now())
        or s.bundle_id in (select m.bundle_id from pipeline.item_state m
                            where m.item_id = any (cast(:ids as bigint[])) and m.state in ('pending', 'selected')
                              and m.expires_at <= (select pipeline.now())))
returning s.item_id;

-- name: revive
-- With a new expiry where one is given; `renew` then writes the body that says so.
update pipeline.item_state
   set state = 'pending', version = version + 1, cycle_id = null, rank = null, attempts = 0, source_cancelled = false,
       not_before = null, expires_at = coalesce(cast(:expires_at as timestamptz), expires_at), reason = :reason, detail = cast(:detail as jsonb)
 where item_id = any (cast(:ids as bigint[]))
   and (state in ('expired', 'failed', 'quarantined') or (state = 'cancelled' and source_cancelled))
   and (expires_at is null or coalesce(cast(:expires_at as timestamptz), expires_at) > (select pipeline.now()))
returning item_id;

-- name: renew
-- Another expiry is another body: the next revision, with the demands of the one before. Its digest is that of no row, so that a
-- source or a file that still shows the old row revises it.
with body as (
  insert into pipeline.item (item_id, revision, weight, payload, not_before, expires_at, digest, origin, created_at)
  select i.item_id, i.revision + 1, i.weight, i.payload, null, cast(:expires_at as timestamptz),
         decode(md5(i.digest || convert_to(cast(cast(:expires_at as timestamptz) as text), 'UTF8')), 'hex'), i.origin, (select pipeline.now())
    from pipeline.item_state s join pipeline.item i using (item_id, revision)
   where s.item_id = any (cast(:ids as bigint[]))
  returning item_id, revision),
wants as (
  insert into pipeline.item_demand (item_id, revision, resource_id, quantity)
  select d.item_id, b.revision, d.resource_id, d.quantity
    from body b join pipeline.item_demand d on d.item_id = b.item_id and d.revision = b.revision - 1
   where d.item_id = any (cast(:ids as bigint[])))
update pipeline.item_state s
   set version = s.version + 1, revision = s.revision + 1, expires_at = cast(:expires_at as timestamptz), reason = :reason, detail = null
  from body b where b.item_id = s.item_id
returning s.item_id;

-- name: quarantine
update pipeline.item_state
   set state = 'quarantined', version = version + 1, reason = :reason, detail = null
 where item_id = any (cast(:ids as bigint[])) and state = 'pending'
returning item_id;

-- name: put_aside
-- `exceeds` in its detail is how an import knows whom other numbers bring back.
with asked as (
  select s.item_id, bool_and(s.state = 'pending' and s.version = u.version) over (partition by coalesce(s.bundle_id, -s.item_id)) as same
    from unnest(cast(:ids as bigint[]), cast(:versions as bigint[])) u (item_id, version) join pipeline.item_state s using (item_id))
update pipeline.item_state s
   set state = 'quarantined', version = s.version + 1, reason = :reason, detail = jsonb_build_object('exceeds', cast(:exceeds as text))
  from asked a where a.item_id = s.item_id and a.same
returning s.item_id;

-- name: too_large
select k.key, i.weight, s.reason
  from pipeline.item_state s join pipeline.item_key k using (item_id) join pipeline.item i using (item_id, revision)
 where s.pool_id = :pool_id and s.state = 'quarantined' and s.detail ->> 'exceeds' is not null
 order by s.item_id limit :most;

-- name: dead
-- Dead letters, the newest first, with what their last executor said and since when they lie there.
select k.key, s.state::text as state, s.reason, s.detail ->> 'error' as error, s.attempts, s.token as claims, i.weight, s.expires_at,
       b.key as bundle_key, x.at as since
  from pipeline.item_state s
  join pipeline.item_key k using (item_id)
  join pipeline.item i using (item_id, revision)
  left join pipeline.bundle b using (bundle_id)
  left join pipeline.transition x on x.item_id = s.item_id and x.version = s.version
 where s.pool_id = :pool_id and s.state in ('failed', 'quarantined') and s.state = coalesce(cast(:state as pipeline.state), s.state)
   and (cast(:error as text) is null or position(:error in coalesce(s.detail ->> 'error', s.reason, '')) > 0)
 order by x.at desc, s.item_id desc limit :most;

-- name: members
select k.key, s.state::text as state, s.reason, s.token from pipeline.item_state s join pipeline.item_key k using (item_id)
 where s.bundle_id = :bundle_id order by s.item_id;

-- name: due_to_expire
-- Longest overdue first, for that is the order of the index: by item id, the planner walks through every item there is. The locks
-- are taken in id order afterwards.
select item_id from pipeline.item_state
 where state in ('pending', 'selected') and expires_at <= (select pipeline.now())
 order by expires_at limit :most;

-- name: holds_run_out
-- Only of cycles that executors can see: the holds of an unpublished one wait for whoever finishes it. In the order of the index, as above.
select s.item_id from pipeline.item_state s join pipeline.cycle c using (cycle_id)
 where s.state = 'selected' and s.hold_until <= (select pipeline.now()) and c.status = 'published'
 order by s.hold_until limit :most;

-- name: still_run_out
-- Judged again under the locks, as one may have been selected anew while we waited for them. A bundle goes with the first of its members.
select s.item_id from pipeline.item_state s
 where s.item_id = any (cast(:ids as bigint[])) and s.state = 'selected'
   and (s.hold_until <= (select pipeline.now())
        or s.bundle_id in (select m.bundle_id from pipeline.item_state m
                            where m.item_id = any (cast(:ids as bigint[])) and m.state = 'selected'
                              and m.hold_until <= (select pipeline.now())));

-- name: of_cycle
-- The claimed ones too: one that is failing at this moment may be about to become selected again, and only its lock tells.
-- By the cycle's decisions, which are in order: whatever it holds it has selected, in the same transaction.
select d.item_id from pipeline.decision d
  join pipeline.item_state s on s.item_id = d.item_id and s.cycle_id = d.cycle_id and s.state in ('selected', 'claimed')
 where d.cycle_id = :cycle_id and d.verdict = 'selected' and d.item_id > :after
   and s.item_id > :after  -- the same, said of the state too: a merge would begin at the first item that there is, for each batch anew
 order by d.item_id limit :most;

-- name: broken_bundles
-- Pending bundles that lost a member for good: they can never be whole again, so the rest is cancelled. One that its source took away
-- may come back, and its mates wait for it.
select s.item_id from pipeline.item_state s
 where s.state in ('pending', 'selected') and s.bundle_id in (
   select bundle_id from pipeline.item_state
    where bundle_id = any (select bundle_id from pipeline.item_state where item_id = any (cast(:ids as bigint[])) and bundle_id is not null)
      and (state in ('expired', 'quarantined') or (state = 'cancelled' and not source_cancelled)));

-- name: source_keys
-- What the source of a pool submitted and still waits: the candidates for "vanished".
select k.key from pipeline.item_state s join pipeline.item_key k using (item_id) join pipeline.item i using (item_id, revision)
 where s.pool_id = :pool_id and s.state = 'pending' and i.origin = 'source';
