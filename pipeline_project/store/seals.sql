-- name: lock
-- One sealer at a time; the next one sees, in a new statement, what this one sealed. No row lock would do: there may be no row yet.
select pg_advisory_xact_lock(1936024940);

-- name: last
select seal_id, sealed_at, after_xid::text, after_seq, until_xid::text, until_seq, rows, root, names_digest, previous, chain
  from pipeline.audit_seal order by seal_id desc limit 1;

-- name: unsealed
-- The next rows whose transactions have ended, in feed order, as columns. Below the horizon nothing can appear any more.
select count(*) as rows, string_agg(leaf, ''::bytea) as leaves, string_agg(xid8send(xid), ''::bytea) as xids,
       string_agg(int8send(seq), ''::bytea) as seqs, string_agg(int8send(coalesce(item_id, 0)), ''::bytea) as items,
       string_agg(int8send(coalesce(version, 0)::bigint), ''::bytea) as versions, string_agg(timestamptz_send(at), ''::bytea) as times
  from (select * from pipeline.trail
         where (xid, seq) > (cast(:xid as xid8), :seq) and xid < pg_snapshot_xmin(pg_current_snapshot())
         order by xid, seq limit :most) batch;

-- name: add
insert into pipeline.audit_seal (seal_id, sealed_at, after_xid, after_seq, until_xid, until_seq, rows, root, names_digest, previous, chain,
                                 leaves, names)
values (:seal_id, :sealed_at, cast(:after_xid as xid8), :after_seq, cast(:until_xid as xid8), :until_seq, :rows, :root, :names_digest,
        :previous, :chain, :leaves, :names);

-- name: after
-- Seals without their bulk, oldest first.
select seal_id, sealed_at, after_xid::text, after_seq, until_xid::text, until_seq, rows, root, names_digest, previous, chain
  from pipeline.audit_seal where seal_id > :seal_id order by seal_id limit :most;

-- name: bulk
select leaves, names from pipeline.audit_seal where seal_id = :seal_id;

-- name: present_leaves
-- What the rows of a seal hash to now.
select coalesce(string_agg(leaf, ''::bytea), ''::bytea)
  from (select leaf from pipeline.trail
         where (xid, seq) > (cast(:after_xid as xid8), :after_seq) and (xid, seq) <= (cast(:until_xid as xid8), :until_seq)
         order by xid, seq) batch;

-- name: present_names
-- The same with their names: asked where a leaf differs.
select count(*) as rows, string_agg(leaf, ''::bytea) as leaves, string_agg(xid8send(xid), ''::bytea) as xids,
       string_agg(int8send(seq), ''::bytea) as seqs, string_agg(int8send(coalesce(item_id, 0)), ''::bytea) as items,
       string_agg(int8send(coalesce(version, 0)::bigint), ''::bytea) as versions, string_agg(timestamptz_send(at), ''::bytea) as times
  from (select * from pipeline.trail
         where (xid, seq) > (cast(:after_xid as xid8), :after_seq) and (xid, seq) <= (cast(:until_xid as xid8), :until_seq)
         order by xid, seq) batch;

-- name: row_at
-- One row of the trail as a person reads it.
select t.xid::text as xid, t.seq, t.at, p.name as pool, t.event, k.key as item, t.item_id, t.version, t.revision, t.from_state::text as from_state,
       t.to_state::text as to_state, t.cycle_id, t.token, t.session_name, t.actor, t.reason, t.detail
  from pipeline.trail t left join pipeline.pool p using (pool_id) left join pipeline.item_key k using (item_id)
 where t.xid = cast(:xid as xid8) and t.seq = :seq;

-- name: key_of
select key from pipeline.item_key where item_id = :item_id;

-- name: gone
-- Times whose partitions were taken away, as PostgreSQL's own microseconds.
select partition, timestamptz_send(from_at) as from_at, timestamptz_send(until_at) as until_at from pipeline.audit_gone();

-- name: unsealed_rows
-- What no seal covers yet; counted up to a limit.
select count(*) from (select from pipeline.trail where (xid, seq) > (cast(:xid as xid8), :seq) limit :most) rest;

-- name: trail_name
-- A restored or newly made database of the same name is another one, and has a file of roots of its own.
select current_database() || '-' || oid from pg_database where datname = current_database();

-- name: leaves
-- What rows of transition hash to that are in a file by now. Details travel as text: through a number of Python's they would change.
select string_agg(int8send(t.seq), ''::bytea) as seqs, string_agg(pipeline.transition_leaf(t), ''::bytea) as leaves
  from jsonb_array_elements(cast(:rows as jsonb)) written,
       jsonb_populate_record(null::pipeline.transition, written || jsonb_build_object('detail', (written ->> 'detail')::jsonb)) t;
