-- name: server
-- What PostgreSQL says of itself and of us. session_user is who logged in; the engine acts as pipeline_writer whoever that is.
select current_setting('server_version') as server_version,
       current_setting('server_version_num')::int / 10000 as server_major,
       pg_database_size(current_database()) as size_bytes,
       session_user as session_user,
       (select rolsuper from pg_roles where rolname = session_user) as superuser;

-- name: simulated
-- The time a simulation was told last; no row where the database lives in real time.
select at from pipeline.clock;

-- name: tables
-- Each table with its partitions, which are summed under it: what is in it, what is dead in it, and who looked after it when.
select t.name as table,
       sum(pg_total_relation_size(t.oid))::bigint as bytes, sum(pg_indexes_size(t.oid))::bigint as index_bytes,
       sum(greatest(t.reltuples, 0))::bigint as estimate,
       coalesce(sum(u.n_live_tup), 0)::bigint as live, coalesce(sum(u.n_dead_tup), 0)::bigint as dead,
       coalesce(sum(u.n_tup_upd), 0)::bigint as updates, coalesce(sum(u.n_tup_hot_upd), 0)::bigint as hot_updates,
       max(greatest(u.last_autovacuum, u.last_vacuum)) as vacuumed_at, max(greatest(u.last_autoanalyze, u.last_analyze)) as analyzed_at,
       max(age(t.relfrozenxid)) filter (where t.relkind = 'r') as xid_age, count(*) filter (where t.inhparent is not null)::int as partitions
  from (select coalesce(parent.relname, c.relname) as name, c.oid, c.reltuples, c.relfrozenxid, c.relkind, h.inhparent
          from pg_class c
          left join pg_inherits h on h.inhrelid = c.oid
          left join pg_class parent on parent.oid = h.inhparent
         where c.relnamespace = 'pipeline'::regnamespace and c.relkind in ('r', 'p')) t
  left join pg_stat_user_tables u on u.relid = t.oid
 group by 1
 order by 2 desc, 1;

-- name: as_oneself
-- PostgreSQL shows the sessions of others to those who logged in as the same user, not to the role they act in.
set local role none;

-- name: horizon_age
-- Transactions that began since the oldest one that still writes: the feed is behind by so many.
select (pg_snapshot_xmax(s)::text::bigint - pg_snapshot_xmin(s)::text::bigint) from pg_current_snapshot() s;

-- name: oldest_snapshot
-- Dead rows that anybody's snapshot may still see are not removed, and the feed does not pass the oldest transaction that writes.
select pid, state, coalesce(application_name, '') as application, age(backend_xmin) as xmin_age,
       extract(epoch from clock_timestamp() - xact_start)::bigint as open_s
  from pg_stat_activity
 where backend_xmin is not null and pid <> pg_backend_pid() and (datname = current_database() or datname is null)
 order by age(backend_xmin) desc, xact_start limit 1;

-- name: partitions_ahead
-- Months of the audit trail that are made already, this one not counted.
select count(*)::int from pg_inherits h join pg_class c on c.oid = h.inhrelid
 where h.inhparent = 'pipeline.transition'::regclass and c.relname ~ '^transition_\d{4}_\d\d$'
   and c.relname > 'transition_' || to_char(pipeline.now() at time zone 'UTC', 'YYYY_MM');

-- name: note_sizes
-- Once a day; rows as the last vacuum or analyze counted them.
insert into pipeline.table_size (day, table_name, bytes, rows)
select (pipeline.now() at time zone 'UTC')::date, t.name, sum(pg_total_relation_size(t.oid)), sum(greatest(t.reltuples, 0))
  from (select coalesce(parent.relname, c.relname) as name, c.oid, c.reltuples
          from pg_class c
          left join pg_inherits h on h.inhrelid = c.oid
          left join pg_class parent on parent.oid = h.inhparent
         where c.relnamespace = 'pipeline'::regnamespace and c.relkind = 'r') t
 where not exists (select from pipeline.table_size s where s.day = (pipeline.now() at time zone 'UTC')::date)
 group by t.name
on conflict do nothing;

-- name: growth
-- Bytes a day since the oldest note of the last 30 days.
select n.table_name, ((n.bytes - f.bytes) / (n.day - f.day))::bigint as bytes_a_day
  from (select distinct on (table_name) table_name, day, bytes from pipeline.table_size order by table_name, day desc) n
  join (select distinct on (table_name) table_name, day, bytes from pipeline.table_size
         where day >= (pipeline.now() at time zone 'UTC')::date - 30 order by table_name, day) f using (table_name)
 where n.day > f.day;
