-- The executor's side, for every language: claim, complete, fail, heartbeat. Each is one statement and so one transaction, unless
-- the caller opened one. `security definer`, so that the role pipeline_executor needs no right on any table; the search_path is
-- fixed, with temporary tables last, so that nothing of the caller's stands in for anything of ours. Policies are read inside.
-- Lock order: the executor's row, items by id, resources by id (by the trigger of the move).

-- At once what is needed in the end: whoever has read items and goes on to move them would wait for us, and we for them.
lock table pipeline.executor, pipeline.item_state in access exclusive mode;

-- Every move of an item writes into each index whose condition it meets. What waits without a date needs no place among the dates; and
-- what a cycle holds is found by its decisions (`of_cycle` in items.sql), which are in the order of item ids anyway.
drop index pipeline.item_state_expiry;
create index item_state_expiry on pipeline.item_state (expires_at) where state in ('pending', 'selected') and expires_at is not null;
drop index pipeline.item_state_cycle;

alter table pipeline.executor add column lost_at timestamptz;  -- the sweep took its last claim back; its next sign of life clears it

-- What an executor holds, and by which request: for heartbeats and for claims that are asked for again.
create index item_state_executor on pipeline.item_state (executor_id, (detail ->> 'request')) where state = 'claimed';

-- As policies write it: 90s, 5m, 6h, 2d.
create function pipeline.seconds(duration text) returns bigint language sql immutable strict parallel safe
  as $$ select left(duration, -1)::bigint * case right(duration, 1) when 's' then 1 when 'm' then 60 when 'h' then 3600 when 'd' then 86400 end $$;

-- A policy's value at a path. What a policy that was stored by an older version does not name has the default of core/policy.py.
create function pipeline.policy_of(pool_id int) returns jsonb language sql stable
  as $$
    select jsonb_build_object(
             'lease', pipeline.seconds(coalesce(y.document #>> '{ttl,lease}', '5m')),
             'hold', pipeline.seconds(coalesce(y.document #>> '{ttl,hold}', '15m')),
             'max_attempts', coalesce((y.document #>> '{retries,max_attempts}')::int, 3),
             'backoff', pipeline.seconds(coalesce(y.document #>> '{retries,backoff}', '30s')),
             'on_failure', coalesce(y.document #>> '{retries,on_failure}', 'keep_hold'),
             'bundle_on_failure', coalesce(y.document #>> '{retries,bundle_on_failure}', 'keep_rest'),
             'quarantine_after', (y.document #>> '{retries,quarantine_after}')::int)
      from pipeline.policy y where y.pool_id = policy_of.pool_id order by y.version desc limit 1
  $$;

create function pipeline.refuse_pool(pool text) returns void language plpgsql stable set search_path = pipeline, pg_temp as $$
begin
  raise exception 'pool %: expected one that exists (%)', coalesce(quote_literal(pool), 'null'),
    coalesce((select string_agg(name, ', ' order by name) from (select p.name from pool p order by p.name limit 10) known),
             'none yet: `pipeline pools create NAME`')
    using errcode = 'P0002';
end $$;

create function pipeline.refuse_argument(name text, expected text, given text) returns void language plpgsql stable as $$
begin
  raise exception '%: expected %, found %', name, expected, coalesce(given, 'null') using errcode = '22023';
end $$;

-- The executor's number; it is seen now, to the second: a row that every claim writes would be a chain of dead versions as long as
-- the oldest snapshot lasts.
create function pipeline.executor_seen(pool_id int, name text) returns int language plpgsql set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  me int;
begin
  select e.executor_id into me from executor e
   where e.pool_id = executor_seen.pool_id and e.name = executor_seen.name and e.lost_at is null
     and e.seen_at > (select pipeline.now()) - interval '1 second';
  if not found then
    if not length(executor_seen.name) between 1 and 200 or executor_seen.name is null then
      perform refuse_argument('executor', 'a name of 1 to 200 characters', quote_literal(left(executor_seen.name, 20)));
    end if;
    insert into executor as e (pool_id, name, seen_at) values (executor_seen.pool_id, executor_seen.name, pipeline.now())
    on conflict (pool_id, name) do update set seen_at = excluded.seen_at, lost_at = null
    returning e.executor_id into me;
  end if;
  return me;
end $$;

-- Up to `most` selected items of published cycles, best rank first, until the lease ends.
--   ttl      how long the lease lasts; null = as the policy says
--   request  a name for this very call, such as a UUID: asked again with it, whoever lost the answer gets it again, as far as the
--            leases live
--   keys     take only these items
-- Plans are kept, here and in `complete` and `record_moves`: by itself PostgreSQL plans each statement that is given an array or a
-- LIMIT anew at each call, a third of the cost of a claim of one item. A plan that is kept does not know how small the LIMIT is and
-- might sort all that is selected; without sorting, only item_state_ready has the order. Nor does it know how long an array is, and
-- searches it from end to end for each row that it filters: so any(array) only as the condition of an index, never of a scan.
create function pipeline.claim(
  pool text, executor text, most int default 1, ttl interval default null, request text default null, keys text[] default null
) returns table (item text, token bigint, payload jsonb, lease_until timestamptz, attempt int)
  language plpgsql security definer set search_path = pipeline, pg_temp set plan_cache_mode = force_generic_plan
  set enable_sort = off set enable_seqscan = off as $$
#variable_conflict use_column
declare
  number int;
  me int;
  lease interval := ttl;
  at timestamptz;
  taken bigint[];
begin
  if most is null or most not between 1 and 100000 then
    perform refuse_argument('most', 'a whole number from 1 to 100000', most::text);
  end if;
  if ttl <= interval '0' then
    perform refuse_argument('ttl', 'more than no time', ttl::text);
  end if;
  select p.pool_id into number from pool p where p.name = claim.pool;
  if not found then
    perform refuse_pool(claim.pool);
  end if;
  me := executor_seen(number, executor);
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
  if ttl is null then  -- of policy_of only this, a claim is called that often
    select make_interval(secs => pipeline.seconds(coalesce(y.document #>> '{ttl,lease}', '5m'))) into lease
      from policy y where y.pool_id = number order by y.version desc limit 1;
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

-- What every call that brings claims back begins with: the pool's number, after a look at the rest.
create function pipeline.claims_of(pool text, items text[], tokens bigint[], executor text) returns int
  language plpgsql set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  number int;
begin
  if items is null or tokens is null or cardinality(items) <> cardinality(tokens) then
    perform refuse_argument('tokens', 'one for each item', format('%s items and %s tokens', cardinality(items), cardinality(tokens)));
  end if;
  if cardinality(items) > 100000 then
    perform refuse_argument('items', 'at most 100000', cardinality(items)::text);
  end if;
  select p.pool_id into number from pool p where p.name = claims_of.pool;
  if not found then
    perform refuse_pool(claims_of.pool);
  end if;
  if executor is not null then
    perform set_config('pipeline.actor', executor, true);
  end if;
  return number;
end $$;

-- One row a claim, in the order given. Accepted is what moved now, and what had been moved so by this very token: the audit trail
-- remembers how each claim ended, whatever became of the item since.
create function pipeline.answers(number int, items text[], tokens bigint[], events text[], why text, moved bigint[], states pipeline.state[])
  returns table (item text, token bigint, accepted boolean, state text, reason text)
  language sql stable set search_path = pipeline, pg_temp as $$
  select u.key, u.token, d.state is not null, coalesce(d.state, s.state)::text,
         case when k.item_id is null then 'the pool has no item of that key'
              when d.state is not null then null
              when s.token <> u.token then format('stale token: expected %s; the item is %s', s.token, s.state)
              else format('the claim is over; the item is %s', s.state) end
    from unnest(items, tokens) with ordinality u (key, token, n)
    left join item_key k on k.pool_id = number and k.key = u.key
    left join item_state s on s.item_id = k.item_id
    left join unnest(moved, states) m (item_id, state) on m.item_id = s.item_id and s.token = u.token
    left join lateral (
      select m.state where m.state is not null
      union all
      select t.to_state from transition t
       where m.state is null and t.item_id = k.item_id and t.token = u.token and t.from_state = 'claimed'
         and t.event = any (events) and t.reason = why
       limit 1) d on true
   order by u.n
$$;

-- Done. `results` is a JSON array with one value for each item, or null; it is kept with the item and in the audit trail. A claim
-- whose lease has lapsed is still completed while nobody has taken the item back.
create function pipeline.complete(pool text, items text[], tokens bigint[], results jsonb default null, executor text default null)
  returns table (item text, token bigint, accepted boolean, state text, reason text)
  language plpgsql security definer set search_path = pipeline, pg_temp set plan_cache_mode = force_generic_plan
  set enable_seqscan = off as $$
#variable_conflict use_column
declare
  number int := claims_of(pool, items, tokens, executor);
  moved bigint[];
begin
  if results is not null and (jsonb_typeof(results) <> 'array' or jsonb_array_length(results) <> cardinality(items)) then
    perform refuse_argument('results', 'a JSON array of one value for each item', left(results::text, 60));
  end if;
  -- Locked in id order, so that two calls can never wait for each other, and judged under the locks.
  with locked as materialized (
    select s.item_id, u.token, nullif(results -> (u.n - 1)::int, 'null') as result
      from unnest(items, tokens) with ordinality u (key, token, n)
      join item_key k on k.pool_id = number and k.key = u.key
      join item_state s on s.item_id = k.item_id
     order by s.item_id for no key update of s),
  done as (
    update item_state s
       set state = 'completed', version = s.version + 1, lease_until = null, executor_id = null, reason = 'completed', detail = l.result
      from locked l
     where s.item_id = l.item_id and s.token = l.token and s.lease_until is not null  -- claimed, but no partial index tempts the planner
    returning s.item_id)
  select array_agg(d.item_id) into moved from done d;
  if cardinality(moved) = cardinality(items) then
    return query select u.key, u.token, true, 'completed', null::text from unnest(items, tokens) u (key, token);
  else
    return query select * from answers(number, items, tokens, '{complete}', 'completed', moved,
                                       array_fill('completed'::state, array[coalesce(cardinality(moved), 0)]));
  end if;
end $$;

-- What a failed claim comes to, by the policy: quarantined, failed, selected again with its hold, or pending again without. A member
-- of a bundle never competes alone. Its token counts all its claims, and so, when it fails, its failures. A hold of a cycle that is
-- being rolled back is kept by nobody. Where the policy cancels the rest of a bundle, those that are claimed go too: their tokens
-- are refused from then on.
create function pipeline.fail_claims(number int, ids bigint[], tokens bigint[], why text, what jsonb, lapsed_only boolean)
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
                            where s.item_id = any (ids) and s.reason = why and s.state in ('failed', 'quarantined'));
  end if;
end $$;

-- Not done, and why. The state in each row says what the policy made of it.
create function pipeline.fail(pool text, items text[], tokens bigint[], error text, executor text default null)
  returns table (item text, token bigint, accepted boolean, state text, reason text)
  language plpgsql security definer set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  number int := claims_of(pool, items, tokens, executor);
  ids bigint[];
  given bigint[];
  moved bigint[];
  states state[];
begin
  select array_agg(k.item_id), array_agg(u.token) into ids, given
    from unnest(items, tokens) u (key, token) join item_key k on k.pool_id = number and k.key = u.key;
  select array_agg(f.item_id), array_agg(f.state) into moved, states
    from fail_claims(number, ids, given, 'failed', jsonb_build_object('error', error), false) f;
  return query select * from answers(number, items, tokens, '{retry,requeue,fail,quarantine}', 'failed', moved, states);
end $$;

-- Prolongs every live lease of an executor: how many. Housekeeping, so no new version. A lease that has ended is not revived.
create function pipeline.heartbeat(pool text, executor text, ttl interval default null) returns int
  language plpgsql security definer set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  number int;
  me int;
  prolonged int;
begin
  if ttl <= interval '0' then
    perform refuse_argument('ttl', 'more than no time', ttl::text);
  end if;
  select p.pool_id into number from pool p where p.name = heartbeat.pool;
  if not found then
    perform refuse_pool(heartbeat.pool);
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

-- The sweep's: fails up to `most` claims of one pool whose lease has ended, and marks executors that have none left as lost.
create function pipeline.lapse(most int, out claims int, out executors int) language plpgsql security definer
  set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  number int;
  ids bigint[];
  tokens bigint[];
  owners int[];
begin
  select s.pool_id into number from item_state s where s.state = 'claimed' and s.lease_until <= (select pipeline.now()) limit 1;
  select array_agg(l.item_id), array_agg(l.token) into ids, tokens from (
    select s.item_id, s.token from item_state s
     where s.pool_id = number and s.state = 'claimed' and s.lease_until <= (select pipeline.now()) order by s.item_id limit most) l;
  select count(*), array_agg(distinct f.executor_id) into claims, owners
    from fail_claims(number, ids, tokens, 'lease lost', '{"error": "no heartbeat before the lease ended"}', true) f;
  -- SKIP LOCKED: whoever holds the row is alive.
  with lost as (
    select e.executor_id from executor e
     where e.executor_id = any (owners) and e.lost_at is null
       and not exists (select from item_state s where s.executor_id = e.executor_id and s.state = 'claimed')
     order by e.executor_id for no key update skip locked)
  update executor e set lost_at = pipeline.now() from lost where e.executor_id = lost.executor_id;
  get diagnostics executors = row_count;
end $$;

-- As in 0001, in fewer statements, for a claim of one item costs little else. The legality of a move is judged here and no longer by
-- the row trigger item_moves: PostgreSQL reads the text of a trigger's condition anew for every statement, half of the cost of an
-- update of one row, while the plans of this function are kept. What moves no capacity leaves early.
drop trigger item_moves on pipeline.item_state;

-- A row whose number changed meets nobody: then there is no state before.
create function pipeline.refuse_item_move(item bigint, before pipeline.state, version_before int, token_before bigint,
                                          after pipeline.state, version_after int, token_after bigint) returns boolean
  language plpgsql as $$
begin
  raise exception 'item %: illegal move from %, version %, token % to %, version %, token %',
    item, before, version_before, token_before, after, version_after, token_after
    using errcode = '23514', constraint = 'item_moves_legally';
end $$;

create or replace function pipeline.record_moves() returns trigger language plpgsql security definer
  set search_path = pipeline, pg_temp
  set enable_nestloop = off set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  moved bigint[];
  touched bigint[];
  deltas bigint[];
  spends bigint[];
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

  -- What each resource gets, and its lock: in id order, after the items, the one lock order of this schema.
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
  select array_agg(w.resource_id), array_agg(w.delta), array_agg(w.spend) into touched, deltas, spends
    from wanted w where (select count(*) from locked) > 0;
  if touched is null then
    return null;
  end if;
  -- A statement of its own, which sees what the locks were waited for.
  update resource r
     set in_use = r.in_use + t.delta,
         spent = r.spent + case r.kind when 'consumable' then t.spend else 0 end
    from unnest(touched, deltas, spends) as t (resource_id, delta, spend)
   where r.resource_id = any (touched) and r.resource_id = t.resource_id;
  return null;
end $$;

-- Nothing to PUBLIC. An executor has these four and looks at nobody's results; it needs no other right.
revoke all on function pipeline.seconds(text), pipeline.policy_of(int), pipeline.refuse_pool(text), pipeline.refuse_argument(text, text, text),
  pipeline.executor_seen(int, text), pipeline.claim(text, text, int, interval, text, text[]), pipeline.claims_of(text, text[], bigint[], text),
  pipeline.answers(int, text[], bigint[], text[], text, bigint[], pipeline.state[]),
  pipeline.complete(text, text[], bigint[], jsonb, text), pipeline.fail_claims(int, bigint[], bigint[], text, jsonb, boolean),
  pipeline.fail(text, text[], bigint[], text, text), pipeline.heartbeat(text, text, interval), pipeline.lapse(int),
  pipeline.refuse_item_move(bigint, pipeline.state, int, bigint, pipeline.state, int, bigint) from public;
grant execute on function pipeline.claim(text, text, int, interval, text, text[]), pipeline.complete(text, text[], bigint[], jsonb, text),
  pipeline.fail(text, text[], bigint[], text, text), pipeline.heartbeat(text, text, interval) to pipeline_executor, pipeline_writer;
grant execute on function pipeline.lapse(int) to pipeline_writer;
revoke select on pipeline.item_state from pipeline_executor;
grant select (item_id, pool_id, cycle_id, bundle_id, token, not_before, expires_at, hold_until, lease_until, version, revision, rank,
  attempts, executor_id, state) on pipeline.item_state to pipeline_executor;
