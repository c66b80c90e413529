-- name: archive
-- One batch, one transaction: pipeline.archive locks in id order, moves, and the guards compare what leaves with what is kept.
select seen, moved, last_at, last_item from pipeline.archive(:pool_id, :since, :behind, :cutoff, :most);

-- name: look_again
-- What came back from history and has not moved goes there again: archiving goes back to where the first of it ended. By a moment
-- more, so that a sweep at work, which may be past that place, sees that the cursor is not where it found it.
insert into pipeline.archive_cursor as c (pool_id, archived_until)
select s.pool_id, min(t.at) from pipeline.item_state s join pipeline.transition t using (item_id, version)
 where s.item_id = any (cast(:ids as bigint[])) and s.state not in ('pending', 'selected', 'claimed') group by s.pool_id
on conflict (pool_id) do update set archived_until = least(c.archived_until, excluded.archived_until) - interval '1 microsecond';

-- name: window
-- From where archiving goes on, and up to when. A little before the place where it stopped: a slow transaction may have committed behind it.
select coalesce((select archived_until - interval '5 minutes' from pipeline.archive_cursor where pool_id = :pool_id), timestamptz '1970-01-01') as since,
       pipeline.now() - make_interval(secs => :age_s) as cutoff;

-- name: remember
-- Unless somebody has sent archiving back meanwhile: then the next sweep begins there.
insert into pipeline.archive_cursor (pool_id, archived_until) values (:pool_id, :until)
on conflict (pool_id) do update set archived_until = excluded.archived_until
 where archive_cursor.archived_until - interval '5 minutes' = :since;

-- name: recall
-- Locks in id order, as everywhere.
select unnest(pipeline.recall(cast(:ids as bigint[])));

-- name: find
-- The same columns as items.find.
select h.item_id, h.cycle_id, h.bundle_id, h.token, h.not_before, h.expires_at, null::timestamptz as hold_until,
       null::timestamptz as lease_until, h.pool_id, h.version, h.revision, h.rank, h.attempts, null::int as executor_id, h.state,
       h.source_cancelled, h.reason, h.detail, k.key, k.submitted_at, i.weight, i.payload, i.origin, b.key as bundle_key,
       b.size as bundle_size, c.cycle_key, c.status as cycle_status, null::text as executor, h.archived_at
  from pipeline.item_key k
  join pipeline.item_history h using (item_id)
  join pipeline.body_history i using (item_id, revision, ended_at)
  left join pipeline.bundle b using (bundle_id)
  left join pipeline.cycle c on c.cycle_id = h.cycle_id
 where k.pool_id = :pool_id and k.key = :key;

-- name: demands
select r.key, d.quantity, r.capacity, r.in_use, r.spent
  from pipeline.body_history h, unnest(h.resources, h.quantities) d (resource_id, quantity) join pipeline.resource r using (resource_id)
 where h.item_id = :item_id and h.revision = :revision order by r.key;

-- name: listing
-- Newest end first, for so they lie in the index of their pool.
select k.key, h.state::text as state, i.weight, h.version, h.attempts, h.rank, h.not_before, h.expires_at, h.reason, h.ended_at, h.archived_at
  from pipeline.item_history h
  join pipeline.item_key k using (item_id)
  join pipeline.body_history i using (item_id, revision, ended_at)
 where h.pool_id = :pool_id and h.state = coalesce(cast(:state as pipeline.state), h.state)
 order by h.ended_at desc, h.item_id desc limit :most;

-- name: dead
-- The same columns as items.dead.
select k.key, h.state::text as state, h.reason, h.detail ->> 'error' as error, h.attempts, h.token as claims, i.weight, h.expires_at,
       b.key as bundle_key, h.ended_at as since
  from pipeline.item_history h
  join pipeline.item_key k using (item_id)
  join pipeline.body_history i using (item_id, revision, ended_at)
  left join pipeline.bundle b using (bundle_id)
 where h.pool_id = :pool_id and h.state in ('failed', 'quarantined') and h.state = coalesce(cast(:state as pipeline.state), h.state)
   and (cast(:error as text) is null or position(:error in coalesce(h.detail ->> 'error', h.reason, '')) > 0)
 order by h.ended_at desc, h.item_id desc limit :most;

-- name: is_there
-- Whether the pool has anything in history, and any dead letter.
select exists (select from pipeline.item_history where pool_id = :pool_id) as items,
       exists (select from pipeline.item_history where pool_id = :pool_id and state in ('failed', 'quarantined')) as dead;

-- name: make_ahead
select pipeline.ensure_partitions(2);

-- name: audit_months
-- Months that have been over for longer than any pool keeps its transitions in the database.
select partition, from_at, until_at from pipeline.audit_months() where until_at <= pipeline.now() - make_interval(secs => :age_s);

-- name: may_detach
select pipeline.may_detach(:month);

-- name: record_export
select pipeline.record_export(:month, :from_at, :until_at, :rows, :location, :sha256);

-- name: hurry
-- Detaching locks the whole audit trail for a moment. Whoever waits for that lock makes everybody else wait behind it: not for long.
set local lock_timeout = '500ms';

-- name: detach
select pipeline.detach_audit(:month);

-- name: detached
select partition, location, sha256, rows from pipeline.audit_export where detached_at is not null and dropped_at is null order by from_at;

-- name: drop_detached
select pipeline.drop_detached(:month);

-- name: exported
-- Files in which rows of the audit trail are that the database has no more.
select partition, location, sha256, rows from pipeline.audit_export where detached_at is not null order by from_at;

-- name: cycle_keys
select cycle_id, cycle_key from pipeline.cycle where cycle_id = any (cast(:ids as bigint[]));
