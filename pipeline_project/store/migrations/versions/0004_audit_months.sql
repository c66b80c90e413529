-- Months of the audit trail leave the database once every item in them has ended and is archived, and a file holds the same rows.

create table pipeline.audit_export (
  partition text primary key,
  from_at timestamptz not null,
  until_at timestamptz not null,
  rows bigint not null,
  location text not null,
  sha256 text not null,
  exported_at timestamptz not null,
  detached_at timestamptz,
  dropped_at timestamptz
);

-- The time from which on the audit trail is complete in this database.
create function pipeline.audit_begins() returns timestamptz language sql stable set search_path = pipeline, pg_temp
  as $$ select coalesce(max(until_at), '-infinity') from audit_export where detached_at is not null $$;

-- Months that are attached and over, oldest first.
create function pipeline.audit_months() returns table (partition text, from_at timestamptz, until_at timestamptz)
  language sql stable set search_path = pipeline, pg_temp as $$
  select m.name, m.month at time zone 'UTC', (m.month + interval '1 month') at time zone 'UTC'
    from (select c.relname::text as name, to_timestamp(substr(c.relname, 12), 'YYYY_MM')::timestamp as month
            from pg_catalog.pg_inherits h join pg_catalog.pg_class c on c.oid = h.inhrelid
           where h.inhparent = 'pipeline.transition'::regclass and c.relname ~ '^transition_\d{4}_\d\d$') m
   where (m.month + interval '1 month') at time zone 'UTC' <= pipeline.now()
   order by m.month $$;

-- Whether every row of a month is covered by a seal: what leaves can be compared with its seal for ever.
create function pipeline.audit_sealed(month text) returns boolean language sql stable set search_path = pipeline, pg_temp
  as $$ select pipeline.unsealed_rows(format('pipeline.%I', month)::regclass) = 0 $$;

-- As 0003 promised: times whose months were taken away. Verification excuses rows of these, and no others.
create or replace function pipeline.audit_gone() returns table (partition text, from_at timestamptz, until_at timestamptz) language sql stable
  set search_path = pipeline, pg_temp
  as $$ select e.partition, e.from_at, e.until_at from audit_export e where e.detached_at is not null $$;

-- The oldest month that is attached, sealed, and without a row of any item that is still in the hot tables.
create function pipeline.may_detach(partition text) returns boolean language plpgsql stable security definer set search_path = pipeline, pg_temp as $$
declare alive boolean;
begin
  if partition is distinct from (select m.partition from audit_months() m limit 1) or not audit_sealed(partition) then
    return false;
  end if;
  execute format('select exists (select from pipeline.%I t join pipeline.item_state s using (item_id))', partition) into alive;
  return not alive;
end $$;

-- Detach a month whose file was written, if it still may go and the file holds as many rows. Detaching locks the whole audit trail for
-- a moment: the caller sets a short lock_timeout, and tries again another time. True when it is (or was) detached.
create function pipeline.detach_audit(month text) returns boolean language plpgsql security definer set search_path = pipeline, pg_temp as $$
declare
  export audit_export;
  present bigint;
begin
  perform pg_advisory_xact_lock(hashtext('pipeline.detach_audit'));  -- nobody recalls an item of it meanwhile
  select * into export from audit_export e where e.partition = month limit 1 for no key update;
  if export.detached_at is not null then
    return true;
  end if;
  if export.partition is null or not may_detach(month) then
    return false;
  end if;
  execute format('select count(*) from pipeline.%I', month) into present;
  if present <> export.rows then
    raise exception 'audit month %: expected the % rows of its export, found %', month, export.rows, present using errcode = '23514';
  end if;
  execute format('alter table pipeline.transition detach partition pipeline.%I', month);
  update audit_export set detached_at = pipeline.now() where partition = month;
  return true;
end $$;

-- The caller has read the file of a detached month once more. True when the table is (or was) gone.
create function pipeline.drop_detached(month text) returns boolean language plpgsql security definer set search_path = pipeline, pg_temp as $$
begin
  perform from audit_export e where e.partition = month and e.detached_at is not null and e.dropped_at is null limit 1 for no key update;
  if not found then
    return exists (select from audit_export e where e.partition = month and e.dropped_at is not null);
  end if;
  execute format('drop table if exists pipeline.%I', month);
  update audit_export set dropped_at = pipeline.now() where partition = month;
  return true;
end $$;

-- An export is made anew as often as it takes, until its month is detached.
create function pipeline.record_export(month text, from_time timestamptz, until_time timestamptz, n bigint, place text, hash text) returns void
  language sql security definer set search_path = pipeline, pg_temp as $$
  insert into audit_export as e (partition, from_at, until_at, rows, location, sha256, exported_at)
  values (month, from_time, until_time, n, place, hash, pipeline.now())
  on conflict (partition) do update
    set rows = excluded.rows, location = excluded.location, sha256 = excluded.sha256, exported_at = excluded.exported_at
  where e.detached_at is null $$;

revoke all on function pipeline.audit_begins(), pipeline.audit_months(), pipeline.audit_sealed(text), pipeline.may_detach(text),
  pipeline.detach_audit(text), pipeline.drop_detached(text),
  pipeline.record_export(text, timestamptz, timestamptz, bigint, text, text) from public;
grant execute on function pipeline.audit_begins(), pipeline.audit_months(), pipeline.audit_sealed(text), pipeline.may_detach(text)
  to pipeline_writer, pipeline_reader, pipeline_operator, pipeline_auditor;
grant execute on function pipeline.detach_audit(text), pipeline.drop_detached(text),
  pipeline.record_export(text, timestamptz, timestamptz, bigint, text, text) to pipeline_writer;
grant select on pipeline.audit_export to pipeline_writer, pipeline_reader, pipeline_operator, pipeline_auditor;
