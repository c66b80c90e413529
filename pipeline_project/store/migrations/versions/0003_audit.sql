-- The trail in one view, its seals, cursors within a transaction, and hints by NOTIFY.

-- In the order in which those who work take them: one who moved an item and now writes that down waits for nobody who waits for
-- item_state (measured: without this `pipeline bench migrate --revision 0003` kills a move by deadlock).
lock table pipeline.cycle in access exclusive mode;
lock table pipeline.item_state in share row exclusive mode;
lock table pipeline.transition, pipeline.pool_event in access exclusive mode;

-- Who logged in, for pool events too. Those that are there already do not know it.
alter table pipeline.pool_event add column session_name text;
alter table pipeline.pool_event alter column session_name set default session_user;

-- A position of the feed is (xid, seq): a transaction of a million rows is read in pages, too. Pool events take part with numbers
-- below all those of transitions, so that they come first in their transaction and one pair orders everything.
drop index pipeline.transition_xid;
drop index pipeline.transition_at;  -- nothing asks by time alone but whole months, and those are partitions
create index transition_feed on pipeline.transition (xid, seq);
drop index pipeline.pool_event_xid;
create index pool_event_feed on pipeline.pool_event (xid, (event_id - 4611686018427387904));

-- A leaf is the hash of every column: record_send is the same whatever a session's
-- DateStyle or TimeZone, writes lengths and nulls, and holds no number that differs between two databases once enums are text.
-- Text travels in client_encoding, which must be UTF8. The byte 0 keeps leaves apart from nodes, as in RFC 6962.
-- Planned in line where it is called, so it has no search_path of its own.
create function pipeline.transition_leaf(t pipeline.transition) returns bytea language sql stable as $$
  select sha256('\x00'::bytea || record_send(row('transition'::text, t.seq, t.xid, t.at, t.item_id, t.cycle_id, t.token, t.pool_id,
                                                 t.version, t.revision, t.from_state::text, t.to_state::text, t.event, t.session_name,
                                                 t.actor, t.reason, t.detail))) $$;

-- What the feed reads and the seals cover.
create view pipeline.trail as
  select e.xid, e.event_id - 4611686018427387904 as seq, e.at, e.pool_id, e.kind as event, null::bigint as item_id, null::int as version,
         null::int as revision, null::pipeline.state as from_state, null::pipeline.state as to_state, null::bigint as cycle_id,
         null::bigint as token, e.session_name, e.actor, null::text as reason, e.detail,
         sha256('\x00'::bytea || record_send(row('pool_event'::text, e.event_id, e.xid, e.at, e.pool_id, e.kind, e.actor, e.detail,
                                                 e.session_name))) as leaf
    from pipeline.pool_event e
  union all
  select t.xid, t.seq, t.at, t.pool_id, t.event, t.item_id, t.version, t.revision, t.from_state, t.to_state, t.cycle_id, t.token,
         t.session_name, t.actor, t.reason, t.detail,
         pipeline.transition_leaf(t)
    from pipeline.transition t;

-- Nothing wrote the table of 0001. A seal covers the rows after one position up to another: their Merkle root (RFC 6962), chained
-- to the seal before. The leaves and the names of the rows stay, so that the row which changed can be named.
drop table pipeline.audit_seal;
create table pipeline.audit_seal (
  seal_id bigint primary key check (seal_id >= 1),
  sealed_at timestamptz not null,
  after_xid xid8 not null,
  after_seq bigint not null,
  until_xid xid8 not null,
  until_seq bigint not null,
  rows int not null check (rows >= 1),
  root bytea not null,
  names_digest bytea not null,
  previous bytea not null,
  chain bytea not null,
  leaves bytea not null,
  names bytea not null,
  unique (after_xid, after_seq)
);
-- Hashes do not compress, and the names are compressed already.
alter table pipeline.audit_seal alter column leaves set storage external, alter column names set storage external;
create trigger append_only before update or delete on pipeline.audit_seal for each row execute function pipeline.refuse_change();
create trigger no_truncate before truncate on pipeline.audit_seal for each statement execute function pipeline.refuse_change();

-- Times whose partitions were archived and taken away: verification excuses rows of these, and no others. Whoever detaches partitions
-- replaces this function, and the view, with what it knows.
create function pipeline.audit_gone() returns table (partition text, from_at timestamptz, until_at timestamptz) language sql stable
  set search_path = pipeline, pg_temp
  as $$ select null::text, null::timestamptz, null::timestamptz where false $$;

-- What items that are archived have spent of a resource: replay begins from it.
create view pipeline.archived_spent as
  select resource_id, 0::bigint as spent from pipeline.resource where false;

-- Everything up to this position is sealed; one row, always.
create function pipeline.sealed_up_to(out xid xid8, out seq bigint) language sql stable
  set search_path = pipeline, pg_temp
  as $$ select s.until_xid, s.until_seq from (select) one left join (select * from audit_seal order by seal_id desc limit 1) s on true $$;

-- How many rows of a partition (or of the whole trail) no seal covers yet: 0 before it may be detached.
create function pipeline.unsealed_rows(partition regclass) returns bigint language plpgsql stable security definer
  set search_path = pipeline, pg_temp as $$
declare found bigint;
begin
  execute format('select count(*) from %s where (xid, seq) > (select coalesce(xid, ''0''), coalesce(seq, 0) from pipeline.sealed_up_to())',
                 partition) into found;
  return found;
end $$;

-- A cursor stands on the last row its consumer is done with.
alter table pipeline.feed_cursor rename column position to xid;
alter table pipeline.feed_cursor add column seq bigint not null default 0;
alter table pipeline.feed_cursor add constraint consumer_has_a_name check (consumer ~ '^[A-Za-z0-9_.:-]{1,64}$');

-- A hint that the feed has something new, for whoever listens; polling is the truth. Never from claims, nor from any other move of
-- an item: NOTIFY makes commits wait for each other. So only one transaction at a time gives it, and the others do not wait for it.
create function pipeline.hint() returns trigger language plpgsql security definer set search_path = pipeline, pg_temp as $$
begin
  if pg_try_advisory_xact_lock(1751740020) then  -- "hint"
    perform pg_notify('pipeline_feed', '');
  end if;
  return null;
end $$;
create trigger feed_hint after insert on pipeline.item_state for each statement execute function pipeline.hint();
create trigger feed_hint after insert on pipeline.pool_event for each statement execute function pipeline.hint();

revoke all on function pipeline.audit_gone(), pipeline.sealed_up_to(), pipeline.unsealed_rows(regclass), pipeline.hint(),
  pipeline.transition_leaf(pipeline.transition) from public;
grant execute on function pipeline.audit_gone(), pipeline.sealed_up_to(), pipeline.unsealed_rows(regclass),
  pipeline.transition_leaf(pipeline.transition)
  to pipeline_writer, pipeline_operator, pipeline_reader, pipeline_auditor;
grant select on pipeline.trail, pipeline.audit_seal, pipeline.archived_spent
  to pipeline_writer, pipeline_operator, pipeline_reader, pipeline_auditor;
grant insert on pipeline.audit_seal to pipeline_writer;
-- An auditor verifies and replays by reading alone: states, demands and counters, never a payload.
grant select on pipeline.item_state, pipeline.item_demand, pipeline.resource, pipeline.hold, pipeline.bundle, pipeline.feed_cursor
  to pipeline_auditor;
do $$ begin
  if to_regclass('pipeline.alembic_version') is not null then
    grant select on pipeline.alembic_version to pipeline_executor, pipeline_auditor;
  end if;
end $$;
