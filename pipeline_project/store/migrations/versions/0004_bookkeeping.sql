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

-- Room for moves. No move of an item is a HOT update, whatever room its page has: `state` is in the condition of every index of item_state.
-- Room only keeps the new version on the same page. 20,000 items submitted, selected, claimed and completed by hundreds, a vacuum at each
-- tenth, pages of the heap afterwards: 537 with fillfactor 100, 411 with 90, 480 with the 70 that it had; without any vacuum 1070, 731, 842;
-- its indexes differ by less than 7 %. `resource` keeps its 50: of its updates 94 % are HOT, with 90 they were 75 %, with 100 60 %.
alter table pipeline.item_state set (fillfactor = 90);

-- Rows leave these tables now, a day's worth at a time. By default a fifth of a table has to be dead before autovacuum looks, which is
-- then how much larger than needed it stays; item_state has 2 % since 0001. The audit trail has no dead rows, and history hardly any.
alter table pipeline.item set (autovacuum_vacuum_scale_factor = 0.05);
alter table pipeline.item_demand set (autovacuum_vacuum_scale_factor = 0.05);
alter table pipeline.decision set (autovacuum_vacuum_scale_factor = 0.05);
