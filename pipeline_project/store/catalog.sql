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
-- Each table with its partitions, indexes and TOAST: partitions are summed under their parent.
select coalesce(parent.relname, c.relname) as table, sum(pg_total_relation_size(c.oid))::bigint as bytes
  from pg_class c
  left join pg_inherits h on h.inhrelid = c.oid
  left join pg_class parent on parent.oid = h.inhparent
 where c.relnamespace = 'pipeline'::regnamespace and c.relkind in ('r', 'p')
 group by 1
 order by 2 desc, 1;
