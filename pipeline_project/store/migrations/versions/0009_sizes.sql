-- A limit to what executors bring: results and errors are kept with the item, in the audit trail and in history, and every list of dead
-- letters reads the latter. Only functions are replaced, so what was stored before stays as it is and no table is looked at.

-- As in 0002; a result has the limit of a payload, in bytes of JSON as PostgreSQL writes it. With one that is too large none is stored:
-- the claims live on, and the executor can put its data elsewhere and complete with their address.
create or replace function pipeline.complete(pool text, items text[], tokens bigint[], results jsonb default null, executor text default null)
  returns table (item text, token bigint, accepted boolean, state text, reason text)
  language plpgsql security definer set search_path = pipeline, pg_temp set plan_cache_mode = force_generic_plan
  set enable_seqscan = off as $$
#variable_conflict use_column
declare
  largest constant int := 65536;
  number int := claims_of(pool, items, tokens, executor);
  moved bigint[];
begin
  if results is not null and (jsonb_typeof(results) <> 'array' or jsonb_array_length(results) <> cardinality(items)) then
    perform refuse_argument('results', 'a JSON array of one value for each item', left(results::text, 60));
  end if;
  if octet_length(results::text) > largest then  -- else none of them is too large: no statement for what is hardly ever so
    perform refuse_argument('results', format('at most %s bytes of JSON for each item', largest),
                            format('%s for item %L', octet_length(r.value::text), items[r.n]))
       from jsonb_array_elements(results) with ordinality r (value, n) where octet_length(r.value::text) > largest;
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

-- As in 0002; of an error that is too long the middle is left out. It is not refused: an executor that cannot say how it failed would
-- look as if it hung, and its item would wait for the end of the lease. Beginning and end, because programs differ in where they put
-- the cause. In characters, and as many as are 64 KiB at most in whatever language.
create or replace function pipeline.fail(pool text, items text[], tokens bigint[], error text, executor text default null)
  returns table (item text, token bigint, accepted boolean, state text, reason text)
  language plpgsql security definer set search_path = pipeline, pg_temp as $$
#variable_conflict use_column
declare
  longest constant int := 16384;
  number int := claims_of(pool, items, tokens, executor);
  kept text := error;
  ids bigint[];
  given bigint[];
  moved bigint[];
  states state[];
begin
  if length(error) > longest then
    kept := left(error, longest / 2)
            || format(E'\n[%s of %s characters are left out here]\n', length(error) - longest, length(error))
            || right(error, longest / 2);
  end if;
  select array_agg(k.item_id), array_agg(u.token) into ids, given
    from unnest(items, tokens) u (key, token) join item_key k on k.pool_id = number and k.key = u.key;
  select array_agg(f.item_id), array_agg(f.state) into moved, states
    from fail_claims(number, ids, given, 'failed', jsonb_build_object('error', kept), false) f;
  return query select * from answers(number, items, tokens, '{retry,requeue,fail,quarantine}', 'failed', moved, states);
end $$;
