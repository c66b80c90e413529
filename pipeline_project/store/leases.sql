-- name: executor
insert into pipeline.executor (pool_id, name, seen_at) values (:pool_id, :name, pipeline.now())
on conflict (pool_id, name) do update set seen_at = excluded.seen_at
returning executor_id;

-- name: claim
-- Best rank first. SKIP LOCKED, so that executors never wait for each other; expiry, hold and publication are judged here again,
-- because sweeping is only housekeeping.
with picked as materialized (
  select s.item_id
    from pipeline.item_state s, (select pipeline.now() as at) t
   where s.pool_id = :pool_id and s.state = 'selected'
     and s.hold_until > t.at and (s.expires_at is null or s.expires_at > t.at) and (s.not_before is null or s.not_before <= t.at)
     and (cast(:keys as text[]) is null or s.item_id in (
           select k.item_id from pipeline.item_key k where k.pool_id = :pool_id and k.key = any (cast(:keys as text[]))))
     and exists (select from pipeline.cycle c where c.cycle_id = s.cycle_id and c.status = 'published')
   order by s.rank, s.item_id limit :most for no key update of s skip locked),
claimed as (
  update pipeline.item_state s
     set state = 'claimed', version = s.version + 1, token = s.token + 1, attempts = s.attempts + 1, executor_id = :executor_id,
         lease_until = (select pipeline.now()) + make_interval(secs => :ttl_s), hold_until = null,
         reason = cast(:reason as text), detail = null
    from picked where picked.item_id = s.item_id
  returning s.item_id, s.revision, s.token, s.lease_until, s.rank, s.attempts)
select k.key as item, c.token, i.payload, c.lease_until, c.attempts as attempt
  from claimed c join pipeline.item_key k using (item_id) join pipeline.item i using (item_id, revision)
 order by c.rank, c.item_id;

-- name: lock_claims
-- In id order. Whoever holds a stale token is told what the item is now.
select k.key as item, u.token as given, s.item_id, s.token, s.state::text as state, s.reason
  from unnest(cast(:keys as text[]), cast(:tokens as bigint[])) u (key, token)
  join pipeline.item_key k on k.pool_id = :pool_id and k.key = u.key
  join pipeline.item_state s using (item_id)
 order by s.item_id for no key update of s;

-- name: complete
update pipeline.item_state s
   set state = 'completed', version = s.version + 1, lease_until = null, executor_id = null, reason = 'completed',
       detail = cast(u.result as jsonb)
  from unnest(cast(:ids as bigint[]), cast(:tokens as bigint[]), cast(:results as text[])) u (item_id, token, result)
 where s.item_id = u.item_id and s.token = u.token and s.state = 'claimed'
returning s.item_id;

-- name: fail
-- What a failure comes to is one table: quarantined, failed, selected again with its hold, or pending again without. A member of
-- a bundle never competes alone. Its token counts all its claims, and so, when it fails, its failures. A hold of a cycle that is
-- being rolled back is kept by nobody.
with fate as (
  select s.item_id, u.token,
         case when s.token >= :quarantine_after then 'quarantined'
              when s.attempts >= :max_attempts then 'failed'
              when (s.bundle_id is not null or :on_failure = 'keep_hold')
                   and exists (select from pipeline.cycle c where c.cycle_id = s.cycle_id and c.status = 'published') then 'selected'
              else 'pending' end::pipeline.state as state,
         t.at + make_interval(secs => :backoff_s * 2 ^ least(s.attempts - 1, 20)) as retry_at
    from unnest(cast(:ids as bigint[]), cast(:tokens as bigint[])) u (item_id, token) join pipeline.item_state s using (item_id),
         (select pipeline.now() as at) t)
update pipeline.item_state s
   set state = f.state, version = s.version + 1, lease_until = null, executor_id = null,
       cycle_id = case when f.state = 'pending' then null else s.cycle_id end,
       rank = case when f.state = 'selected' then s.rank end,
       not_before = case when f.state in ('selected', 'pending') then f.retry_at else s.not_before end,
       hold_until = case when f.state = 'selected' then f.retry_at + make_interval(secs => :hold_s) end,
       reason = :reason, detail = cast(:detail as jsonb)
  from fate f
 where s.item_id = f.item_id and s.token = f.token and s.state = 'claimed'
returning s.item_id, s.state::text as state;

-- name: rest_of_bundles
-- Members of the bundles of items that failed for good, as far as they still wait.
select m.item_id from pipeline.item_state s join pipeline.item_state m using (bundle_id)
 where s.item_id = any (cast(:ids as bigint[])) and s.state in ('failed', 'quarantined') and m.state in ('pending', 'selected');

-- name: lapsed
select s.item_id, s.token, s.pool_id from pipeline.item_state s
 where s.state = 'claimed' and s.lease_until <= (select pipeline.now())
 order by s.item_id limit :most for no key update skip locked;

-- name: heartbeat
-- Prolongs every lease of an executor by name; housekeeping, so no new version. Locked in id order first: the same executor may be
-- completing some of them at this moment.
with mine as materialized (
  select s.item_id from pipeline.item_state s join pipeline.executor e using (executor_id)
   where e.pool_id = :pool_id and e.name = :name and s.state = 'claimed' and s.lease_until > (select pipeline.now())
   order by s.item_id for no key update of s)
update pipeline.item_state s set lease_until = greatest(s.lease_until, (select pipeline.now()) + make_interval(secs => :ttl_s))
  from mine where s.item_id = mine.item_id;
