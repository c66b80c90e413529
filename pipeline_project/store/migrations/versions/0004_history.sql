-- Items that ended long ago, with their bodies and decisions, leave the hot tables for monthly partitions. Whoever deletes a row from a
-- hot table is asked one thing: is the same row in history? So nothing can be lost, whoever it is, and no role or setting opens a back door.

-- In the order in which those who work take them: a migration that begins with the audit trail and then wants item_state meets somebody
-- who has item_state and wants the audit trail (measured: `pipeline bench migrate` died of it). Who reads is not kept waiting but by cycle.
lock table pipeline.cycle in access exclusive mode;
lock table pipeline.item, pipeline.item_demand, pipeline.item_state, pipeline.transition, pipeline.decision in share row exclusive mode;

-- The last state of an item. item_key stays where it is: it is the register of keys, and a key is never used twice.
create table pipeline.item_history (
  item_id bigint not null,
  cycle_id bigint,
  bundle_id bigint,
  token bigint not null,
  not_before timestamptz,
  expires_at timestamptz,
  ended_at timestamptz not null,  -- its last transition
  archived_at timestamptz not null,
  pool_id int not null,
  version int not null,
  revision int not null,
  rank int,
  attempts int not null,
  state pipeline.state not null check (state in ('completed', 'failed', 'expired', 'cancelled', 'quarantined')),
  source_cancelled boolean not null,
  reason text,
  detail jsonb,
  primary key (item_id, ended_at)
) partition by range (ended_at);
create index item_history_bundle on pipeline.item_history (bundle_id) where bundle_id is not null;
create index item_history_ended on pipeline.item_history (pool_id, ended_at);
create index item_history_dead on pipeline.item_history (pool_id, ended_at) where state in ('failed', 'quarantined');

-- A body with its demands: one row where the hot tables have four.
create table pipeline.body_history (
  item_id bigint not null,
  revision int not null,
  weight bigint not null,
  payload jsonb,
  not_before timestamptz,
  expires_at timestamptz,
  digest bytea not null,
  origin text not null,
  created_at timestamptz not null,
  resources bigint[] not null,
  quantities bigint[] not null,
  ended_at timestamptz not null,
  primary key (item_id, revision, ended_at)
) partition by range (ended_at);

create table pipeline.decision_history (
  cycle_id bigint not null,
  item_id bigint not null,
  verdict text not null,
  rank int,
  version int not null,
  weight bigint not null,
  reason text,
  ended_at timestamptz not null,
  primary key (cycle_id, item_id, ended_at)
) partition by range (ended_at);
create index decision_history_item on pipeline.decision_history (item_id);

-- Where archiving goes on. Only a shortcut: from the beginning it would find the same items, for what has moved is not found again.
create table pipeline.archive_cursor (
  pool_id int primary key references pipeline.pool,
  archived_until timestamptz not null
);

-- Ends, in the order in which they came: what archiving reads. On the audit trail, not on item_state: an index there would be one more
-- that every move has to maintain; here only the last move of an item adds to it, at its right edge.
create index transition_ended on pipeline.transition (pool_id, at, item_id)
  where to_state in ('completed', 'failed', 'expired', 'cancelled', 'quarantined');

-- Guards. After the statement, and all its rows at once: a row trigger would look into history once for each of four tables.
-- By nested loop: history is large, and a cached plan would read all of it.

create function pipeline.refuse_loss(item bigint, from_table text) returns void language plpgsql set search_path = pipeline, pg_temp as $$
begin
  if item is not null then
    raise exception '% is append-only: delete refused; item % is not in history as it is here', from_table, item using errcode = '42501';
  end if;
end $$;

create function pipeline.state_leaves() returns trigger language plpgsql set search_path = pipeline, pg_temp
  set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  perform refuse_loss((
    select g.item_id from gone g where not exists (
      select from item_history h where h.item_id = g.item_id and h.version = g.version and h.state = g.state and h.token = g.token) limit 1),
    tg_table_name);
  return null;
end $$;

create function pipeline.body_leaves() returns trigger language plpgsql set search_path = pipeline, pg_temp
  set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  perform refuse_loss((
    select g.item_id from gone g where not exists (
      select from body_history h where h.item_id = g.item_id and h.revision = g.revision and h.digest = g.digest and h.weight = g.weight) limit 1),
    tg_table_name);
  return null;
end $$;

create function pipeline.demand_leaves() returns trigger language plpgsql set search_path = pipeline, pg_temp
  set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  perform refuse_loss((
    select g.item_id from gone g where not exists (
      select from body_history h where h.item_id = g.item_id and h.revision = g.revision
         and h.quantities[array_position(h.resources, g.resource_id)] = g.quantity) limit 1),
    tg_table_name);
  return null;
end $$;

create function pipeline.decision_leaves() returns trigger language plpgsql set search_path = pipeline, pg_temp
  set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  perform refuse_loss((
    select g.item_id from gone g where not exists (
      select from decision_history h where h.cycle_id = g.cycle_id and h.item_id = g.item_id and h.verdict = g.verdict
         and h.rank is not distinct from g.rank) limit 1),
    tg_table_name);
  return null;
end $$;

-- The other way round: history gives back what stands in the hot tables again. Rare, and by row, because a statement trigger on a
-- partitioned table does not see a delete that is aimed at one of its partitions.
create function pipeline.history_leaves() returns trigger language plpgsql set search_path = pipeline, pg_temp as $$
begin
  if tg_op = 'DELETE' and (case tg_argv[0]
      when 'state' then exists (select from item_state s where s.item_id = old.item_id and s.version = (to_jsonb(old) ->> 'version')::int)
      when 'body' then exists (select from item i where i.item_id = old.item_id and i.revision = (to_jsonb(old) ->> 'revision')::int)
      else exists (select from decision d where d.item_id = old.item_id and d.cycle_id = (to_jsonb(old) ->> 'cycle_id')::bigint)
    end) then
    return old;
  end if;
  raise exception '% is append-only: % refused', tg_table_name, lower(tg_op) using errcode = '42501';
end $$;

-- Replaced, not dropped: dropping a trigger would lock out those who read, too.
create or replace trigger append_only before update on pipeline.item for each row execute function pipeline.refuse_change();
create or replace trigger append_only before update on pipeline.item_demand for each row execute function pipeline.refuse_change();
create or replace trigger append_only before update on pipeline.decision for each row execute function pipeline.refuse_change();
create or replace trigger no_delete after delete on pipeline.item_state
  referencing old table as gone for each statement execute function pipeline.state_leaves();
create trigger leaves after delete on pipeline.item
  referencing old table as gone for each statement execute function pipeline.body_leaves();
create trigger leaves after delete on pipeline.item_demand
  referencing old table as gone for each statement execute function pipeline.demand_leaves();
create trigger leaves after delete on pipeline.decision
  referencing old table as gone for each statement execute function pipeline.decision_leaves();
create trigger append_only before update or delete on pipeline.item_history for each row execute function pipeline.history_leaves('state');
create trigger append_only before update or delete on pipeline.body_history for each row execute function pipeline.history_leaves('body');
create trigger append_only before update or delete on pipeline.decision_history for each row execute function pipeline.history_leaves('decision');
create trigger no_truncate before truncate on pipeline.item_history for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.body_history for each statement execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.decision_history for each statement execute function pipeline.refuse_change();

-- An item begins as pending, version 1; or it comes back from history exactly as it went there, and then nothing was submitted.
create or replace function pipeline.refuse_move() returns trigger language plpgsql set search_path = pipeline, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    if exists (select from item_history h where h.item_id = new.item_id and h.version = new.version and h.state = new.state
                  and h.revision = new.revision and h.token = new.token and h.pool_id = new.pool_id) then
      return new;
    end if;
    raise exception 'item %: expected to begin as pending, version 1, found %, version %', new.item_id, new.state, new.version
      using errcode = '23514', constraint = 'item_begins_pending';
  end if;
  raise exception 'item %: illegal move from %, version %, token % to %, version %, token %',
    old.item_id, old.state, old.version, old.token, new.state, new.version, new.token
    using errcode = '23514', constraint = 'item_moves_legally';
end $$;

create or replace function pipeline.record_submissions() returns trigger language plpgsql security definer
  set search_path = pipeline, pg_temp as $$
begin
  insert into transition (at, item_id, token, pool_id, version, revision, to_state, event, actor, reason, detail)
  select (select pipeline.now()), n.item_id, 0, n.pool_id, n.version, n.revision, n.state, 'submit', (select pipeline.actor()), n.reason, n.detail
    from after_rows n where n.version = 1;
  return null;
end $$;

-- The moves between hot tables and history.

create function pipeline.ensure_history(ends timestamptz[]) returns void language plpgsql security definer
  set search_path = pipeline, pg_temp as $$
declare
  month date;
  kind text;
  name text;
begin
  for month in select distinct date_trunc('month', e at time zone 'UTC') from unnest(ends) e loop
    continue when to_regclass('pipeline.item_history_' || to_char(month, 'YYYY_MM')) is not null;
    perform pg_advisory_xact_lock(hashtext('pipeline.ensure_history'));  -- another pool's sweep may be making it
    foreach kind in array array['item_history', 'body_history', 'decision_history'] loop
      name := kind || '_' || to_char(month, 'YYYY_MM');
      continue when to_regclass('pipeline.' || name) is not null;
      execute format('create table pipeline.%I partition of pipeline.%I for values from (%L) to (%L)', name, kind,
        month::timestamp at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
      execute format('create trigger no_truncate before truncate on pipeline.%I for each statement execute function pipeline.refuse_change()', name);
    end loop;
  end loop;
end $$;

-- Look at the next so many ends of a pool, in the order in which they came, and move the items that are still as they ended. A bundle
-- leaves when its last member may: until then the others count its members among the hot ones. Whoever calls goes on behind
-- (last_at, last_item) until fewer were seen than asked for. One transaction, and so all of it or nothing.
create function pipeline.archive(of_pool int, since timestamptz, behind bigint, cutoff timestamptz, most int,
                                 out seen int, out moved int, out last_at timestamptz, out last_item bigint)
  language plpgsql security definer set search_path = pipeline, pg_temp as $$
declare
  ids bigint[];
  ends timestamptz[];
begin
  moved := 0;
  select count(*), array_agg(e.item_id), (array_agg(e.at order by e.at desc, e.item_id desc))[1],
         (array_agg(e.item_id order by e.at desc, e.item_id desc))[1]
    into seen, ids, last_at, last_item
    from (select t.item_id, t.at from transition t
           where t.pool_id = of_pool and t.to_state in ('completed', 'failed', 'expired', 'cancelled', 'quarantined')
             and t.at >= since and (t.at, t.item_id) > (since, behind) and t.at <= cutoff
           order by t.at, t.item_id limit most) e;
  if seen = 0 then
    return;
  end if;

  select array_agg(item_id) into ids from (
    select s.item_id from item_state s where s.item_id = any (ids)
    union
    select m.item_id from item_state s join item_state m using (bundle_id) where s.item_id = any (ids)) mates;
  -- In id order. NO KEY, as everywhere; the delete below takes the rest.
  perform from item_state s where s.item_id = any (ids) order by s.item_id for no key update;

  -- Judged in a new statement: one may have been revived while we waited for its lock.
  select array_agg(e.item_id order by e.item_id), array_agg(e.ended_at order by e.item_id) into ids, ends
    from (select s.item_id, t.at as ended_at, bool_and(t.at is not null) over (partition by coalesce(s.bundle_id, -s.item_id)) as whole
            from item_state s
            left join transition t on t.item_id = s.item_id and t.version = s.version and t.at <= cutoff
                                  and t.to_state in ('completed', 'failed', 'expired', 'cancelled', 'quarantined')
           where s.item_id = any (ids)) e
   where e.whole;
  if ids is null then
    return;
  end if;
  perform ensure_history(ends);

  insert into item_history (item_id, cycle_id, bundle_id, token, not_before, expires_at, ended_at, archived_at, pool_id, version, revision,
                            rank, attempts, state, source_cancelled, reason, detail)
  select s.item_id, s.cycle_id, s.bundle_id, s.token, s.not_before, s.expires_at, e.ended_at, (select pipeline.now()), s.pool_id, s.version,
         s.revision, s.rank, s.attempts, s.state, s.source_cancelled, s.reason, s.detail
    from unnest(ids, ends) e (item_id, ended_at) join item_state s using (item_id);
  insert into body_history (item_id, revision, weight, payload, not_before, expires_at, digest, origin, created_at, resources, quantities, ended_at)
  select i.item_id, i.revision, i.weight, i.payload, i.not_before, i.expires_at, i.digest, i.origin, i.created_at,
         array(select d.resource_id from item_demand d where d.item_id = i.item_id and d.revision = i.revision order by d.resource_id),
         array(select d.quantity from item_demand d where d.item_id = i.item_id and d.revision = i.revision order by d.resource_id),
         e.ended_at
    from unnest(ids, ends) e (item_id, ended_at) join item i using (item_id);
  insert into decision_history (cycle_id, item_id, verdict, rank, version, weight, reason, ended_at)
  select d.cycle_id, d.item_id, d.verdict, d.rank, d.version, d.weight, d.reason, e.ended_at
    from unnest(ids, ends) e (item_id, ended_at) join decision d using (item_id);
  delete from decision where item_id = any (ids);
  delete from item_demand where item_id = any (ids);
  delete from item where item_id = any (ids);
  delete from item_state where item_id = any (ids);
  moved := cardinality(ids);
end $$;

-- Back into the hot tables, whole bundles: for a revival. Not what has lost any of its audit trail to a detached month: replaying the
-- trail gives the present. Months leave in order, so whoever still has its submission has everything. Ids that came back.
create function pipeline.recall(wanted bigint[]) returns bigint[] language plpgsql security definer
  set search_path = pipeline, pg_temp as $$
declare ids bigint[];
begin
  perform pg_advisory_xact_lock_shared(hashtext('pipeline.detach_audit'));  -- no month leaves while we look into it
  select array_agg(item_id) into ids from (
    select h.item_id from item_history h
     where h.item_id = any (wanted)
        or h.bundle_id = any (array(select b.bundle_id from item_history b where b.item_id = any (wanted) and b.bundle_id is not null))
     order by h.item_id for no key update) found;
  select array_agg(e.item_id) into ids
    from (select h.item_id, bool_and(t.item_id is not null) over (partition by coalesce(h.bundle_id, -h.item_id)) as whole
            from item_history h left join transition t on t.item_id = h.item_id and t.version = 1
           where h.item_id = any (ids)) e
   where e.whole;
  if ids is null then
    return '{}';
  end if;
  insert into item_state (item_id, cycle_id, bundle_id, token, not_before, expires_at, pool_id, version, revision, rank, attempts, state,
                          source_cancelled, reason, detail)
  select item_id, cycle_id, bundle_id, token, not_before, expires_at, pool_id, version, revision, rank, attempts, state, source_cancelled,
         reason, detail
    from item_history where item_id = any (ids);
  insert into item (item_id, revision, weight, payload, not_before, expires_at, digest, origin, created_at)
  select item_id, revision, weight, payload, not_before, expires_at, digest, origin, created_at from body_history where item_id = any (ids);
  insert into item_demand (item_id, revision, resource_id, quantity)
  select h.item_id, h.revision, d.resource_id, d.quantity
    from body_history h, unnest(h.resources, h.quantities) d (resource_id, quantity) where h.item_id = any (ids);
  insert into decision (cycle_id, item_id, verdict, rank, version, weight, reason)
  select cycle_id, item_id, verdict, rank, version, weight, reason from decision_history where item_id = any (ids);
  delete from decision_history where item_id = any (ids);
  delete from body_history where item_id = any (ids);
  delete from item_history where item_id = any (ids);
  return ids;
end $$;

revoke all on function pipeline.refuse_loss(bigint, text), pipeline.state_leaves(), pipeline.body_leaves(), pipeline.demand_leaves(),
  pipeline.decision_leaves(), pipeline.history_leaves(), pipeline.ensure_history(timestamptz[]), pipeline.recall(bigint[]),
  pipeline.archive(int, timestamptz, bigint, timestamptz, int) from public;
grant execute on function pipeline.archive(int, timestamptz, bigint, timestamptz, int), pipeline.recall(bigint[]) to pipeline_writer;
grant select on pipeline.item_history, pipeline.body_history, pipeline.decision_history, pipeline.archive_cursor
  to pipeline_writer, pipeline_reader, pipeline_operator;
grant select on pipeline.item_history, pipeline.decision_history to pipeline_auditor;
grant insert, update on pipeline.archive_cursor to pipeline_writer;

-- As 0003 promised: replay begins from what archived items have spent. Their own trail may be gone, and their demands are here.
create or replace view pipeline.archived_spent as
  select d.resource_id, sum(d.quantity)::bigint as spent
    from pipeline.item_history h join pipeline.body_history b using (item_id, revision, ended_at),
         unnest(b.resources, b.quantities) d (resource_id, quantity)
   where h.state = 'completed' group by d.resource_id;

-- As 0002, and of archived items too: an answer that was lost may be asked for again long after, when its month of the trail is gone.
create or replace function pipeline.answers(
  number int, items text[], tokens bigint[], events text[], why text, moved bigint[], states pipeline.state[]
) returns table (item text, token bigint, accepted boolean, state text, reason text)
  language sql stable set search_path = pipeline, pg_temp as $$
  select u.key, u.token, d.state is not null, coalesce(d.state, s.state)::text,
         case when k.item_id is null then 'the pool has no item of that key'
              when d.state is not null then null
              when s.token <> u.token then format('stale token: expected %s; the item is %s', s.token, s.state)
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

-- Decisions of hot and archived items alike.
create view pipeline.decided as
  select cycle_id, item_id, verdict, rank, version, weight, reason from pipeline.decision
  union all
  select cycle_id, item_id, verdict, rank, version, weight, reason from pipeline.decision_history;
grant select on pipeline.decided to pipeline_writer, pipeline_reader, pipeline_operator, pipeline_auditor;
