-- name: horizon
-- Transactions below it have all ended: what they wrote is visible for good. A sequence or a timestamp would let a slow writer's rows slip past.
select pg_snapshot_xmin(pg_current_snapshot())::text;

-- name: woken
-- Pools for which something happened since a position that may change what a cycle would select, and where the newest of it stands; a
-- `not_before` that passed stands at the horizon. What cycles and claims do themselves does not count.
select p.name as pool, max(change.xid)::text as newest from (
  select t.pool_id, max(t.xid) as xid from pipeline.transition t
   where t.xid >= cast(:after as xid8) and t.xid < cast(:horizon as xid8) and t.event not in ('select', 'claim')
   group by t.pool_id
  union all
  select e.pool_id, max(e.xid) from pipeline.pool_event e
   where e.xid >= cast(:after as xid8) and e.xid < cast(:horizon as xid8)
     and e.kind in ('capacity_changed', 'policy_applied', 'pool_resumed', 'cycle_rolled_back', 'cycle_abandoned')
   group by e.pool_id
  union all
  select s.pool_id, cast(:horizon as xid8) from pipeline.item_state s
   where s.state = 'pending' and s.not_before > :since and s.not_before <= :at
   group by s.pool_id) change
  join pipeline.pool p using (pool_id)
 where p.status = 'active' and exists (select from pipeline.item_state s where s.pool_id = p.pool_id and s.state = 'pending')
 group by p.name order by p.name;

-- name: newest
-- The newest of those changes in all pools, up to a position; 0 where there has been none. Unlike the horizon it stands still while
-- nothing happens. Two walks down an index on xid, past what cycles and claims did since.
select greatest(
  (select t.xid from pipeline.transition t
    where t.xid < cast(:horizon as xid8) and t.event not in ('select', 'claim') order by t.xid desc limit 1),
  (select e.xid from pipeline.pool_event e
    where e.xid < cast(:horizon as xid8)
      and e.kind in ('capacity_changed', 'policy_applied', 'pool_resumed', 'cycle_rolled_back', 'cycle_abandoned')
    order by e.xid desc limit 1), '0'::xid8)::text;

-- name: active_pools
select name from pipeline.pool where status = 'active' order by name;

-- name: writing_pools
-- With a live owner. A lapsed cycle is finished by the next one.
select p.name from pipeline.cycle c join pipeline.pool p using (pool_id)
 where c.status in ('committing', 'rolling_back') and c.lease_until > pipeline.now() order by p.name;

-- name: backlog
select count(*) as pending, min(k.submitted_at) as oldest, extract(epoch from pipeline.now() - min(k.submitted_at))::bigint as oldest_age_s
  from pipeline.item_state s join pipeline.item_key k using (item_id)
 where s.pool_id = :pool_id and s.state = 'pending' and (s.not_before is null or s.not_before <= (select pipeline.now()));

-- name: starving
-- What has been ready to be selected for longer than it should, and never was.
select k.key, extract(epoch from (select pipeline.now()) - greatest(k.submitted_at, s.not_before))::bigint as waited_s
  from pipeline.item_state s join pipeline.item_key k using (item_id)
 where s.pool_id = :pool_id and s.state = 'pending'
   and greatest(k.submitted_at, s.not_before) <= (select pipeline.now()) - make_interval(secs => :longer_than_s)
   and not exists (select from pipeline.decision d where d.item_id = s.item_id and d.verdict = 'selected')
 order by waited_s desc, k.key limit :most;

-- name: overlooked
-- What became ready after the newest cycle was planned: how many, and for how long the first of them has waited for one.
select count(*) as items, coalesce(extract(epoch from max(w.at - w.ready_at)), 0)::bigint as oldest_age_s,
       (array_agg(w.key order by w.ready_at, w.key))[1] as first
  from (select k.key, greatest(k.submitted_at, s.not_before) as ready_at, (select pipeline.now()) as at
          from pipeline.item_state s join pipeline.item_key k using (item_id)
         where s.pool_id = :pool_id and s.state = 'pending') w
 where w.ready_at <= w.at
   and w.ready_at > coalesce((select max(c.planned_at) from pipeline.cycle c where c.pool_id = :pool_id), '-infinity');

-- name: in_order
-- Before pages of the trail are read. Its newest rows are in no statistics yet: the planner expects one of them, and would sort all that
-- follow for each page, instead of walking down the index that has them in order.
set local enable_sort = off;

-- name: read
-- The next rows whose transactions have ended, in feed order. The page is cut before names are looked up for it.
select v.xid::text as xid, v.seq, v.at, p.name as pool, v.event, k.key as item, v.version, v.from_state::text as from_state,
       v.to_state::text as to_state, c.cycle_key as cycle, v.token, v.session_name, v.actor, v.reason, v.detail
  from (select * from pipeline.trail t
         where (t.xid, t.seq) > (cast(:xid as xid8), :seq) and t.xid < pg_snapshot_xmin(pg_current_snapshot())
         order by t.xid, t.seq limit :most) v
  join pipeline.pool p using (pool_id)
  left join pipeline.item_key k using (item_id)
  left join pipeline.cycle c using (cycle_id)
 order by v.xid, v.seq;

-- name: read_pool
-- The same of one pool. Where it is silent the others' rows are read over, up to the horizon.
select v.xid::text as xid, v.seq, v.at, p.name as pool, v.event, k.key as item, v.version, v.from_state::text as from_state,
       v.to_state::text as to_state, c.cycle_key as cycle, v.token, v.session_name, v.actor, v.reason, v.detail
  from (select * from pipeline.trail t
         where (t.xid, t.seq) > (cast(:xid as xid8), :seq) and t.xid < pg_snapshot_xmin(pg_current_snapshot()) and t.pool_id = :pool_id
         order by t.xid, t.seq limit :most) v
  join pipeline.pool p using (pool_id)
  left join pipeline.item_key k using (item_id)
  left join pipeline.cycle c using (cycle_id)
 order by v.xid, v.seq;

-- name: cursor
select xid::text, seq from pipeline.feed_cursor where consumer = :consumer;

-- name: move_cursor
-- Two processes of one consumer acknowledge one after the other, by the row's lock, and neither takes back what the other has done.
insert into pipeline.feed_cursor as c (consumer, xid, seq, moved_at) values (:consumer, cast(:xid as xid8), :seq, pipeline.now())
    on conflict (consumer) do update set xid = excluded.xid, seq = excluded.seq, moved_at = excluded.moved_at
 where :backwards or (excluded.xid, excluded.seq) > (c.xid, c.seq);

-- name: next_xid
-- Above it no transaction has a number yet.
select pg_snapshot_xmax(pg_current_snapshot())::text;

-- name: behind
-- How many rows follow a position, counted up to a limit, those that may be read and those that wait for the horizon.
select (select count(*) from (select from pipeline.trail where (xid, seq) > (cast(:xid as xid8), :seq)
                                 and xid < pg_snapshot_xmin(pg_current_snapshot()) limit :most) settled) as rows,
       (select extract(epoch from greatest(interval '0', pipeline.now() - at))::float8 from pipeline.trail
         where (xid, seq) > (cast(:xid as xid8), :seq) and xid < pg_snapshot_xmin(pg_current_snapshot()) order by xid, seq limit 1) as seconds;

-- name: waiting
-- What has been committed, and waits for an older transaction to end.
select count(*) as rows, extract(epoch from greatest(interval '0', pipeline.now() - min(at)))::float8 as seconds
  from (select at from pipeline.trail where xid >= pg_snapshot_xmin(pg_current_snapshot()) order by xid limit :most) held;

-- name: cursors
select consumer, xid::text, seq, moved_at from pipeline.feed_cursor order by consumer;

-- name: horizon_holders
-- Whoever has the oldest transaction number on the server; nobody, where no transaction is writing. A replication slot or a snapshot
-- that only reads cannot hold the feed.
select case when a.datname = current_database() then 'session' else 'session in another database' end as what, a.pid,
       a.datname::text as database, a.usename::text as user, a.application_name as application, a.state, a.backend_xid::text as xid,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds, null::text as name
  from pg_stat_activity a
 where a.backend_xid = (pg_snapshot_xmin(pg_current_snapshot())::xid)
union all
select 'prepared transaction', null, p.database::text, p.owner::text, null, null, p.transaction::text,
       extract(epoch from clock_timestamp() - p.prepared)::float8, p.gid
  from pg_prepared_xacts p
 where p.transaction = (pg_snapshot_xmin(pg_current_snapshot())::xid);

-- name: vacuum_holders
-- The oldest view of the data that VACUUM must keep, of each kind: it does not hold the feed, but tables grow while it lasts. A standby
-- that tells what its readers look at (hot_standby_feedback) is a session of its walsender; with a slot, it is the slot that keeps it.
(select case when a.backend_type = 'walsender' then 'standby'
             when a.datname = current_database() then 'session' else 'session in another database' end as what, a.pid,
        a.datname::text as database, a.usename::text as user, a.application_name as application, a.state, a.backend_xmin::text as xmin,
        extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds, null::text as name, age(a.backend_xmin) as transactions
   from pg_stat_activity a
  where a.backend_xmin is not null and a.pid <> pg_backend_pid() and a.backend_type in ('client backend', 'walsender')
  order by age(a.backend_xmin) desc limit 1)
union all
(select 'prepared transaction', null, p.database::text, p.owner::text, null, null, p.transaction::text,
        extract(epoch from clock_timestamp() - p.prepared)::float8, p.gid, age(p.transaction)
   from pg_prepared_xacts p order by age(p.transaction) desc limit 1)
union all
(select 'replication slot', s.active_pid, s.database::text, null, null, case when s.active then 'active' else 'inactive' end,
        case when age(s.xmin) >= age(s.catalog_xmin) or s.catalog_xmin is null then s.xmin else s.catalog_xmin end::text, null,
        s.slot_name::text, greatest(age(s.xmin), age(s.catalog_xmin))
   from pg_replication_slots s where coalesce(s.xmin, s.catalog_xmin) is not null
  order by greatest(age(s.xmin), age(s.catalog_xmin)) desc limit 1);
