-- The same claims and moves in fewer statements: of the 0.9 ms of the server that a turn with ten items takes, 0.6 do not depend on their number.

-- As in 0002, with one look instead of four before the claim.
create or replace function pipeline.claim(
  pool text, executor text, most int default 1, ttl interval default null, request text default null, keys text[] default null
) returns table (item text, token bigint, payload jsonb, lease_until timestamptz, attempt int)
  language plpgsql security definer set search_path = pipeline, pg_temp set plan_cache_mode = force_generic_plan
  set enable_sort = off set enable_seqscan = off as $$
#variable_conflict use_column
declare
  number int;
  me int;
  lease interval;
  at timestamptz;
  taken bigint[];
begin
  if most is null or most not between 1 and 100000 then
    perform refuse_argument('most', 'a whole number from 1 to 100000', most::text);
  end if;
  if ttl <= interval '0' then
    perform refuse_argument('ttl', 'more than no time', ttl::text);
  end if;
  -- The pool, the executor if it was seen within the second, and how long a lease lasts (of the policy only this: a claim is called that
  -- often).
  select p.pool_id, e.executor_id,
         coalesce(ttl, (select make_interval(secs => pipeline.seconds(coalesce(y.document #>> '{ttl,lease}', '5m')))
                          from policy y where y.pool_id = p.pool_id order by y.version desc limit 1))
    into number, me, lease
    from pool p
    left join executor e on e.pool_id = p.pool_id and e.name = claim.executor and e.lost_at is null
                        and e.seen_at > (select pipeline.now()) - interval '1 second'
   where p.name = claim.pool;
  if not found then
    perform refuse_pool(claim.pool);
  end if;
  if me is null then
    me := executor_seen(number, executor);
  end if;
  perform set_config('pipeline.actor', executor, true);
  if request is not null then
    -- The same request twice at once: the second waits until the first is committed, and then sees what it got.
    perform pg_advisory_xact_lock(hashtextextended(request, me));
    return query
      select k.key, s.token, i.payload, s.lease_until, s.attempts
        from item_state s join item_key k using (item_id) join item i using (item_id, revision)
       where s.executor_id = me and s.detail ->> 'request' = request and s.state = 'claimed' and s.lease_until > (select pipeline.now())
       order by s.rank, s.item_id;
    if found then
      return;
    end if;
  end if;
  at := pipeline.now();  -- no lock is waited for from here on
  -- Best rank first. SKIP LOCKED, so that executors never wait for each other; expiry, hold and publication are judged here again,
  -- because sweeping is only housekeeping. The status by a subquery of its own: a join might be planned from the cycles' side.
  if keys is null then
    select array_agg(p.item_id) into taken from (
      select s.item_id from item_state s
       where s.pool_id = number and s.state = 'selected' and s.hold_until > at
         and (s.expires_at is null or s.expires_at > at) and (s.not_before is null or s.not_before <= at)
         and (select c.status from cycle c where c.cycle_id = s.cycle_id) = 'published'
       order by s.rank, s.item_id limit most for no key update of s skip locked) p;
  else
    select array_agg(p.item_id) into taken from (
      select s.item_id from item_key k join item_state s using (item_id)
       where k.pool_id = number and k.key = any (keys) and s.state = 'selected' and s.hold_until > at
         and (s.expires_at is null or s.expires_at > at) and (s.not_before is null or s.not_before <= at)
         and (select c.status from cycle c where c.cycle_id = s.cycle_id) = 'published'
       order by s.rank + 0, s.item_id limit most for no key update of s skip locked) p;  -- + 0: not by all ranks
  end if;
  if taken is null then
    return;
  end if;
  return query
    with claimed as (
      update item_state s
         set state = 'claimed', version = s.version + 1, token = s.token + 1, attempts = s.attempts + 1, executor_id = me,
             lease_until = at + lease, hold_until = null, reason = 'claimed by ' || executor,
             detail = case when request is not null then jsonb_build_object('request', request) end
       where s.item_id = any (taken)
      returning s.item_id, s.revision, s.token, s.lease_until, s.rank, s.attempts)
    select k.key, c.token, i.payload, c.lease_until, c.attempts
      from claimed c join item_key k using (item_id) join item i using (item_id, revision)
     order by c.rank, c.item_id;
end $$;

-- As in 0002, the last two statements in one.
create or replace function pipeline.record_moves() returns trigger language plpgsql security definer
  set search_path = pipeline, pg_temp
  set enable_nestloop = off set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  moved bigint[];
begin
  -- Every row is judged and, if it has a new version, written down, in one pass; then those that take or give back what they hold.
  -- The same table as core/lifecycle.py; a test tries every pair. Without a new version nothing but a lease, a hold, its place in
  -- the queue or an executor's name may change.
  with recorded as (
    insert into transition (at, item_id, cycle_id, token, pool_id, version, revision, from_state, to_state, event, actor, reason, detail)
    select (select pipeline.now()), n.item_id, coalesce(n.cycle_id, o.cycle_id), n.token, n.pool_id, n.version, n.revision,
           o.state, n.state, event_of(o.state, n.state), (select pipeline.actor()), n.reason, n.detail
      from after_rows n left join before_rows o on o.item_id = n.item_id
     where case when
             n.pool_id = o.pool_id and n.bundle_id is not distinct from o.bundle_id and case
               when n.version = o.version then
                 n.state = o.state and n.revision = o.revision and n.token = o.token
                 and n.cycle_id is not distinct from o.cycle_id and n.attempts = o.attempts
                 and n.expires_at is not distinct from o.expires_at and n.source_cancelled = o.source_cancelled
               when n.version <> o.version + 1 then false
               when n.state = 'claimed' and n.token <> o.token + 1 then false
               when n.state <> 'claimed' and n.token <> o.token then false
               when n.revision <> o.revision then o.state = 'pending' and n.state = 'pending' and n.revision = o.revision + 1
               when o.state = 'pending' then n.state in ('selected', 'expired', 'cancelled', 'quarantined')
               when o.state = 'selected' then n.state in ('pending', 'claimed', 'expired', 'cancelled')
               when o.state = 'claimed' then n.state in ('completed', 'selected', 'pending', 'failed', 'cancelled', 'quarantined')
               when o.state in ('expired', 'failed', 'quarantined') then n.state = 'pending'
               when o.state = 'cancelled' then n.state = 'pending' and o.source_cancelled
               else false
             end
           then n.version <> o.version
           else refuse_item_move(n.item_id, o.state, o.version, o.token, n.state, n.version, n.token) end
    returning item_id, from_state, to_state)
  select array_agg(r.item_id) into moved
    from recorded r where (r.to_state in ('selected', 'claimed')) <> (r.from_state in ('selected', 'claimed'));
  if moved is null then
    return null;
  end if;

  -- What each resource gets: its locks in id order, after the items, the one lock order of this schema, all of them before the first is
  -- written. A row that was waited for is added to as it is then: PostgreSQL looks at its newest version again, as in `complete`.
  with wanted as materialized (
    select d.resource_id,
           sum(case when n.state = 'selected' then d.quantity else -d.quantity end)::bigint as delta,
           sum(case when n.state = 'completed' then d.quantity else 0 end)::bigint as spend
      from after_rows n join item_demand d using (item_id, revision)
     where d.item_id = any (moved)
     group by d.resource_id),
  locked as materialized (
    select r.resource_id from resource r where r.resource_id = any (array(select w.resource_id from wanted w))
     order by r.resource_id for no key update)
  update resource r
     set in_use = r.in_use + w.delta,
         spent = r.spent + case r.kind when 'consumable' then w.spend else 0 end
    from wanted w
   where r.resource_id = any (array(select l.resource_id from locked l)) and r.resource_id = w.resource_id;
  return null;
end $$;
