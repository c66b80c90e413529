-- name: lock_items
-- In id order, before any resource: the one lock order. Nothing is read here: what a statement that waited returns is judged anew below.
select count(*) from (
  select from pipeline.item_state where item_id = any (cast(:ids as bigint[])) order by item_id for no key update) locked;

-- name: read_items
-- A new statement, so that state, version and the clock are those of after the wait. The clock by a subquery of its own, here and
-- everywhere: else it is asked for each row anew, which costs more than reading the row.
select item_id, version, coalesce(expires_at <= (select pipeline.now()), false)::int as expired
  from pipeline.item_state
 where item_id = any (cast(:ids as bigint[])) order by item_id;

-- name: lock_resources
select count(*) from (
  select from pipeline.resource where resource_id = any (cast(:ids as bigint[])) order by resource_id for no key update) locked;

-- name: free
select resource_id, capacity - in_use - spent as free from pipeline.resource
 where resource_id = any (cast(:ids as bigint[])) order by resource_id;

-- name: select_items
update pipeline.item_state s
   set state = 'selected', version = s.version + 1, cycle_id = :cycle_id, rank = u.rank, not_before = null,
       hold_until = (select pipeline.now()) + make_interval(secs => :hold_s), reason = 'selected', detail = null
  from unnest(cast(:ids as bigint[]), cast(:ranks as bigint[])) as u (item_id, rank)
 where s.item_id = u.item_id;

-- name: expired_among
-- After the selection was written, and so after the time that its transitions bear: what is unexpired now was unexpired then.
select count(*) from pipeline.item_state
 where item_id = any (cast(:ids as bigint[])) and expires_at <= (select pipeline.now());

-- name: record
insert into pipeline.decision (cycle_id, item_id, verdict, rank, version, weight, reason)
select :cycle_id, u.item_id, :verdict, u.rank, u.version, u.weight, :reason
  from unnest(cast(:ids as bigint[]), cast(:ranks as bigint[]), cast(:versions as bigint[]), cast(:weights as bigint[]))
       u (item_id, rank, version, weight);

-- name: of_item
select c.cycle_key, c.cycle_id, c.status::text as cycle_status, c.day, c.planned_at, c.published_at, c.artifact, p.name as pool,
       d.verdict, d.rank, d.reason, d.version
  from (select cycle_id, verdict, rank, reason, version from pipeline.decision where item_id = :item_id
        union all
        select cycle_id, verdict, rank, reason, version from pipeline.decision_history where item_id = :item_id) d
  join pipeline.cycle c using (cycle_id) join pipeline.pool p using (pool_id)
 order by c.cycle_id desc;

-- name: cycles_since
-- Cycles that may have seen an item without keeping a row of it: newest first. With what each was decided by.
select c.cycle_key, c.cycle_id, c.status::text as cycle_status, c.day, c.published_at, c.artifact, c.owner, c.engine_version,
       y.version as policy_version, y.hash as policy_hash, c.certificate ->> 'hash' as selection_hash,
       (c.certificate ->> 'seed')::bigint as seed, c.certificate -> 'solvers' as solvers
  from pipeline.cycle c join pipeline.policy y using (policy_id)
 where c.pool_id = :pool_id and c.planned_at >= :since and c.status in ('published', 'rolled_back')
 order by c.cycle_id desc limit :most;

-- name: top
select k.key, d.rank, d.weight, d.verdict, d.reason
  from (select item_id, rank, weight, verdict, reason from pipeline.decision where cycle_id = :cycle_id
        union all
        select item_id, rank, weight, verdict, reason from pipeline.decision_history where cycle_id = :cycle_id) d
  join pipeline.item_key k using (item_id)
 order by d.rank nulls last, d.item_id limit :most;
