-- What housekeeping remembers between two sweeps.

-- Artifacts that are gone are not looked for again: without this a sweep visits every cycle that ever was.
alter table pipeline.cycle add column artifact_dropped boolean not null default false;
create index cycle_with_artifact on pipeline.cycle (pool_id, cycle_key) where not artifact_dropped;

-- How far the invariants are proven: every transaction below the position has ended and its items were looked at.
create table pipeline.check_mark (
  only_row boolean primary key default true check (only_row),
  position xid8 not null,
  checked_at timestamptz not null,
  full_at timestamptz not null
);

-- Sizes once a day, for growth.
create table pipeline.table_size (
  day date not null,
  table_name text not null,
  bytes bigint not null,
  rows bigint not null,
  primary key (day, table_name)
);

grant select on pipeline.check_mark, pipeline.table_size to pipeline_writer, pipeline_reader, pipeline_operator;
grant insert, update on pipeline.check_mark, pipeline.table_size to pipeline_writer;
