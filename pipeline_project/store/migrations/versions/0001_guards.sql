-- What the database itself refuses, and what it does by itself, whoever writes.

-- Names are written in full below: pg_catalog is searched before any search_path, and has a now() of its own.

-- The only clock. STABLE, so that it may stand in an index condition; each new statement reads it again, also after a lock wait.
create function pipeline.now() returns timestamptz language sql stable parallel safe
  set search_path = pipeline, pg_temp
  as $$ select coalesce((select at from pipeline.clock), clock_timestamp()) $$;

create function pipeline.advance_clock(until timestamptz) returns timestamptz language plpgsql security definer
  set search_path = pipeline, pg_temp as $$
declare told timestamptz;
begin
  update clock set at = until where at <= until returning at into told;
  if told is null then
    raise exception 'clock: %', case when exists (select from clock)
        then format('expected a time at or after %s, found %s: simulated time only moves forward', (select at from clock), until)
        else 'this database lives in real time; only one created as a simulation can be told the time' end
      using errcode = '42501';
  end if;
  perform ensure_partitions(2);
  return told;
end $$;

create function pipeline.refuse_change() returns trigger language plpgsql set search_path = pipeline, pg_temp as $$
begin
  raise exception '% is append-only: % refused', tg_table_name, lower(tg_op) using errcode = '42501';
end $$;

create function pipeline.refuse_move() returns trigger language plpgsql set search_path = pipeline, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    raise exception 'item %: expected to begin as pending, version 1, found %, version %', new.item_id, new.state, new.version
      using errcode = '23514', constraint = 'item_begins_pending';
  end if;
  raise exception 'item %: illegal move from %, version %, token % to %, version %, token %',
    old.item_id, old.state, old.version, old.token, new.state, new.version, new.token
    using errcode = '23514', constraint = 'item_moves_legally';
end $$;

create trigger item_begins before insert on pipeline.item_state for each row
  when (new.state <> 'pending' or new.version <> 1 or new.revision <> 1 or new.token <> 0)
  execute function pipeline.refuse_move();

-- The same table as core/lifecycle.py; a test tries every pair. Without a new version nothing but a lease, a hold, its place
-- in the queue or an executor's name may change.
create trigger item_moves before update on pipeline.item_state for each row
  when (
    new.item_id <> old.item_id or new.pool_id <> old.pool_id or new.bundle_id is distinct from old.bundle_id
    or not case
      when new.version = old.version then
        new.state = old.state and new.revision = old.revision and new.token = old.token
        and new.cycle_id is not distinct from old.cycle_id and new.attempts = old.attempts
        and new.expires_at is not distinct from old.expires_at and new.source_cancelled = old.source_cancelled
      when new.version <> old.version + 1 then false
      when new.state = 'claimed' and new.token <> old.token + 1 then false
      when new.state <> 'claimed' and new.token <> old.token then false
      when new.revision <> old.revision then old.state = 'pending' and new.state = 'pending' and new.revision = old.revision + 1
      when old.state = 'pending' then new.state in ('selected', 'expired', 'cancelled', 'quarantined')
      when old.state = 'selected' then new.state in ('pending', 'claimed', 'expired', 'cancelled')
      when old.state = 'claimed' then new.state in ('completed', 'selected', 'pending', 'failed', 'cancelled', 'quarantined')
      when old.state in ('expired', 'failed', 'quarantined') then new.state = 'pending'
      when old.state = 'cancelled' then new.state = 'pending' and old.source_cancelled
      else false
    end)
  execute function pipeline.refuse_move();

create function pipeline.refuse_cycle_move() returns trigger language plpgsql set search_path = pipeline, pg_temp as $$
begin
  raise exception 'cycle %: illegal move from % to %', old.cycle_id, old.status, new.status
    using errcode = '23514', constraint = 'cycle_moves_legally';
end $$;

create trigger cycle_moves before update on pipeline.cycle for each row
  when (
    new.cycle_id <> old.cycle_id or new.pool_id <> old.pool_id or new.cycle_key <> old.cycle_key or new.fence < old.fence
    or not case old.status
      when new.status then true
      when 'planned' then new.status in ('committing', 'abandoned')
      when 'committing' then new.status in ('published', 'abandoned')
      when 'published' then new.status = 'rolling_back'
      when 'rolling_back' then new.status = 'rolled_back'
      else false
    end)
  execute function pipeline.refuse_cycle_move();

create function pipeline.event_of(before pipeline.state, after pipeline.state) returns text language sql immutable parallel safe
  as $$ select case
    when before is null then 'submit'
    when after = 'selected' then case before when 'pending' then 'select' else 'retry' end
    when after = 'pending' then case before when 'pending' then 'revise' when 'selected' then 'release' when 'claimed' then 'requeue' else 'revive' end
    when after = 'claimed' then 'claim'
    when after = 'completed' then 'complete'
    when after = 'failed' then 'fail'
    when after = 'expired' then 'expire'
    when after = 'cancelled' then 'cancel'
    when after = 'quarantined' then 'quarantine' end $$;

create function pipeline.actor() returns text language sql stable
  as $$ select coalesce(nullif(current_setting('pipeline.actor', true), ''), session_user) $$;

create function pipeline.record_submissions() returns trigger language plpgsql security definer
  set search_path = pipeline, pg_temp as $$
begin
  insert into transition (at, item_id, token, pool_id, version, revision, to_state, event, actor, reason, detail)
  select (select pipeline.now()), n.item_id, 0, n.pool_id, n.version, n.revision, n.state, 'submit', (select pipeline.actor()), n.reason, n.detail
    from after_rows n;
  return null;
end $$;

-- Every move writes one transition and settles the capacity it takes or gives back. Nobody else may write in_use or spent, so
-- that no caller can forget it. Nested loops are off because a cached plan made for one row would join 20,000 by 20,000;
-- the any(array) conditions keep the access to the large tables by index.
create function pipeline.record_moves() returns trigger language plpgsql security definer
  set search_path = pipeline, pg_temp
  set enable_nestloop = off as $$
declare
  moved bigint[];
  touched bigint[];
  deltas bigint[];
  spends bigint[];
begin
  insert into transition (at, item_id, cycle_id, token, pool_id, version, revision, from_state, to_state, event, actor, reason, detail)
  select (select pipeline.now()), n.item_id, coalesce(n.cycle_id, o.cycle_id), n.token, n.pool_id, n.version, n.revision,
         o.state, n.state, event_of(o.state, n.state), (select pipeline.actor()), n.reason, n.detail
    from after_rows n join before_rows o using (item_id)
   where n.version <> o.version;

  select array_agg(n.item_id) into moved
    from after_rows n join before_rows o using (item_id)
   where (n.state in ('selected', 'claimed')) <> (o.state in ('selected', 'claimed'));
  if moved is null then
    return null;
  end if;

  select array_agg(t.resource_id), array_agg(t.delta), array_agg(t.spend) into touched, deltas, spends
    from (select d.resource_id,
                 sum(case when n.state = 'selected' then d.quantity else -d.quantity end) as delta,
                 sum(case when n.state = 'completed' then d.quantity else 0 end) as spend
            from after_rows n join item_demand d using (item_id, revision)
           where n.item_id = any (moved) and d.item_id = any (moved)
           group by d.resource_id) t;
  -- In id order, after the items: the one lock order of this schema.
  perform from resource r where r.resource_id = any (touched) order by r.resource_id for no key update;
  update resource r
     set in_use = r.in_use + t.delta,
         spent = r.spent + case r.kind when 'consumable' then t.spend else 0 end
    from unnest(touched, deltas, spends) as t (resource_id, delta, spend)
   where r.resource_id = any (touched) and r.resource_id = t.resource_id;
  return null;
end $$;

create trigger item_submitted after insert on pipeline.item_state
  referencing new table as after_rows for each statement execute function pipeline.record_submissions();
create trigger item_moved after update on pipeline.item_state
  referencing old table as before_rows new table as after_rows for each statement execute function pipeline.record_moves();

-- Append-only. Row triggers on the parent are cloned to partitions; a statement trigger on the parent would not see DML aimed at one.
create trigger append_only before update or delete on pipeline.transition for each row execute function pipeline.refuse_change();
create trigger append_only before update or delete on pipeline.decision for each row execute function pipeline.refuse_change();
create trigger append_only before update or delete on pipeline.pool_event for each row execute function pipeline.refuse_change();
create trigger append_only before update or delete on pipeline.audit_seal for each row execute function pipeline.refuse_change();
create trigger append_only before update or delete on pipeline.policy for each row execute function pipeline.refuse_change();
create trigger append_only before update or delete on pipeline.item for each row execute function pipeline.refuse_change();
create trigger append_only before update or delete on pipeline.item_demand for each row execute function pipeline.refuse_change();
create trigger no_delete before delete on pipeline.item_state for each row execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.transition for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.decision for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.pool_event for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.audit_seal for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.policy for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.item for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.item_demand for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.item_state for each statement execute function pipeline.refuse_change();

-- Rows in the DEFAULT partition mean that nobody made partitions ahead: the invariants report them.
create table pipeline.transition_default partition of pipeline.transition default;
create trigger no_truncate before truncate on pipeline.transition_default for each statement execute function pipeline.refuse_change();

create function pipeline.ensure_partitions(months int) returns int language plpgsql security definer
  set search_path = pipeline, pg_temp as $$
declare
  first date := date_trunc('month', pipeline.now() at time zone 'UTC');
  made int := 0;
  month date;
  name text;
begin
  for month in select generate_series(first, first + make_interval(months => months), interval '1 month') loop
    name := 'transition_' || to_char(month, 'YYYY_MM');
    if to_regclass('pipeline.' || name) is null then
      execute format('create table pipeline.%I partition of pipeline.transition for values from (%L) to (%L)', name,
        month::timestamp at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
      execute format('create trigger no_truncate before truncate on pipeline.%I for each statement execute function pipeline.refuse_change()', name);
      made := made + 1;
    end if;
  end loop;
  return made;
end $$;
