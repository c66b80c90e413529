-- No lease without an end: an executor that dies would keep what it holds for ever. And calls that cannot be meant are told so.

-- What an executor may ask for: more than no time, and no more than the policy allows. Whoever needs longer sends heartbeats.
create function pipeline.judge_ttl(pool_id int, ttl interval) returns void language plpgsql stable set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  longest interval;
begin
  if ttl <= interval '0' then
    perform refuse_argument('ttl', 'more than no time', ttl::text);
  end if;
  select make_interval(secs => greatest(pipeline.seconds(coalesce(y.document #>> '{ttl,lease}', '5m')),
                                        pipeline.seconds(coalesce(y.document #>> '{ttl,lease_max}', '7d')))) into longest
    from policy y where y.pool_id = judge_ttl.pool_id order by y.version desc limit 1;
  if ttl > longest then
    perform refuse_argument('ttl', format('at most %s, the policy''s ttl.lease_max, and a heartbeat before it ends', justify_hours(longest)),
                            ttl::text);
  end if;
end $$;
revoke all on function pipeline.judge_ttl(int, interval) from public;

-- An executor that falls silent in a transaction of its own would keep its locks, and whoever cancels, sweeps or rolls back would wait
-- for it. PostgreSQL ends its session instead, after as long as it ends one of the engine's; for a session that has set its own limit,
-- it is that one. Nothing happens to who calls one function a transaction.
create function pipeline.limit_silence() returns void language plpgsql as $$
begin
  if current_setting('idle_in_transaction_session_timeout') = '0' then
    perform set_config('idle_in_transaction_session_timeout', '5s', true);
  end if;
end $$;
revoke all on function pipeline.limit_silence() from public;

-- As in 0007, with a limit to what may be asked for: `request` goes into an index.
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
  if length(request) > 200 then
    perform refuse_argument('request', 'a name of at most 200 characters', quote_literal(left(request, 20) || '...'));
  end if;
  perform limit_silence();
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
  if ttl is not null then
    perform judge_ttl(number, ttl);
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

-- As in 0002.
create or replace function pipeline.heartbeat(pool text, executor text, ttl interval default null) returns int
  language plpgsql security definer set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  number int;
  me int;
  prolonged int;
begin
  perform limit_silence();
  select p.pool_id into number from pool p where p.name = heartbeat.pool;
  if not found then
    perform refuse_pool(heartbeat.pool);
  end if;
  if ttl is not null then
    perform judge_ttl(number, ttl);
  end if;
  me := executor_seen(number, executor);
  -- Locked in id order first: the same executor may be completing some of them at this moment.
  perform from item_state s where s.executor_id = me and s.state = 'claimed' order by s.item_id for no key update;
  update item_state s
     set lease_until = greatest(s.lease_until, (select pipeline.now())
                                + coalesce(ttl, make_interval(secs => (policy_of(number) ->> 'lease')::bigint)))
   where s.executor_id = me and s.state = 'claimed' and s.lease_until > (select pipeline.now());
  get diagnostics prolonged = row_count;
  return prolonged;
end $$;

-- As in 0002, where a null array is called one.
create or replace function pipeline.claims_of(pool text, items text[], tokens bigint[], executor text) returns int
  language plpgsql set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  number int;
begin
  if items is null or tokens is null or cardinality(items) <> cardinality(tokens) then
    perform refuse_argument('tokens', 'one for each item', format('%s items and %s tokens', coalesce(cardinality(items)::text, 'null'),
                                                                  coalesce(cardinality(tokens)::text, 'null')));
  end if;
  if cardinality(items) > 100000 then
    perform refuse_argument('items', 'at most 100000', cardinality(items)::text);
  end if;
  perform limit_silence();
  select p.pool_id into number from pool p where p.name = claims_of.pool;
  if not found then
    perform refuse_pool(claims_of.pool);
  end if;
  if executor is not null then
    perform set_config('pipeline.actor', executor, true);
  end if;
  return number;
end $$;

-- As in 0004, where no token is a stale one.
create or replace function pipeline.answers(
  number int, items text[], tokens bigint[], events text[], why text, moved bigint[], states pipeline.state[]
) returns table (item text, token bigint, accepted boolean, state text, reason text)
  language sql stable set search_path = pipeline, pg_temp as $$
  select u.key, u.token, d.state is not null, coalesce(d.state, s.state)::text,
         case when k.item_id is null then 'the pool has no item of that key'
              when d.state is not null then null
              when s.token is distinct from u.token then format('stale token: expected %s; the item is %s', s.token, s.state)
              else format('the claim is over; the item is %s', s.state) end
    from unnest(items, tokens) with ordinality u (key, token, n)
    left join item_key k on k.pool_id = number and k.key = u.key
    left join lateral (
      select a.token, a.state, null::text as reason from item_state a where a.item_id = k.item_id
      union all
      select h.token, h.state, h.reason from item_history h where h.item_id = k.item_id) s on true
    left join unnest(moved, states) m (item_id, state) on m.item_id = k.item_id and s.token = u.token
    left join lateral (
      select m.state where m.state is not null
      union all
      select t.to_state from transition t
       where m.state is null and t.item_id = k.item_id and t.token = u.token and t.from_state = 'claimed'
         and t.event = any (events) and t.reason = why
      union all
      select s.state where m.state is null and s.token = u.token and s.reason = why
       limit 1) d on true
   order by u.n
$$;

-- As in 0002, where a failure that is sent again does not cancel once more: a mate may have been revived since.
create or replace function pipeline.fail_claims(number int, ids bigint[], tokens bigint[], why text, what jsonb, lapsed_only boolean)
  returns table (item_id bigint, state pipeline.state, executor_id int)
  language plpgsql set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  policy jsonb := policy_of(number);
  cancels_rest boolean := policy ->> 'bundle_on_failure' = 'cancel_rest';
  touched bigint[] := ids;
  lost bigint[];
  at timestamptz;
begin
  if cancels_rest then  -- who is whose mate never changes, so it may be read before the locks
    select array_agg(m.item_id) into touched from (
      select unnest(ids) as item_id
      union
      select m.item_id from item_state s join item_state m using (bundle_id) where s.item_id = any (ids)) m;
  end if;
  -- In id order, mates among them: a lock that were taken later could be one that another failure holds and waits with.
  perform from item_state s where s.item_id = any (touched) order by s.item_id for no key update;
  at := pipeline.now();
  lost := array(select s.item_id from unnest(ids, tokens) u (item_id, token) join item_state s using (item_id)
                 where s.token = u.token and s.lease_until is not null);
  return query
    with fate as (
      select s.item_id, u.token, s.executor_id,
             case when s.token >= (policy ->> 'quarantine_after')::int then 'quarantined'
                  when s.attempts >= (policy ->> 'max_attempts')::int then 'failed'
                  when (s.bundle_id is not null or policy ->> 'on_failure' = 'keep_hold')
                       and exists (select from cycle c where c.cycle_id = s.cycle_id and c.status = 'published') then 'selected'
                  else 'pending' end::state as state,
             at + make_interval(secs => (policy ->> 'backoff')::bigint * 2 ^ least(s.attempts - 1, 20)) as retry_at
        from unnest(ids, tokens) u (item_id, token) join item_state s using (item_id)
       where s.token = u.token and s.lease_until is not null and (not lapsed_only or s.lease_until <= at))
    update item_state s
       set state = f.state, version = s.version + 1, lease_until = null, executor_id = null,
           cycle_id = case when f.state = 'pending' then null else s.cycle_id end,
           rank = case when f.state = 'selected' then s.rank end,
           not_before = case when f.state in ('selected', 'pending') then f.retry_at else s.not_before end,
           hold_until = case when f.state = 'selected' then f.retry_at + make_interval(secs => (policy ->> 'hold')::bigint) end,
           reason = why, detail = what
      from fate f
     where s.item_id = f.item_id and s.token = f.token and s.lease_until is not null
    returning s.item_id, s.state, f.executor_id;
  if cancels_rest then
    update item_state m
       set state = 'cancelled', version = m.version + 1, rank = null, hold_until = null, lease_until = null, executor_id = null,
           reason = 'a member of its bundle failed for good', detail = null
     where m.item_id = any (touched) and m.state in ('pending', 'selected', 'claimed')
       and m.bundle_id in (select s.bundle_id from item_state s
                            where s.item_id = any (lost) and s.reason = why and s.state in ('failed', 'quarantined'));
  end if;
end $$;
