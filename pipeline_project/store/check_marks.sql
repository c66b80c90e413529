-- name: mark
-- How far the promises are proven; null on a database of another server (a restored backup), whose positions say nothing here.
select m.position::text as position, m.full_at > pipeline.now() - interval '7 days' as recent
  from pipeline.check_mark m where m.position <= pg_snapshot_xmin(pg_current_snapshot());

-- name: touched
-- Items that moved since. Whoever comes from history without a move was proven before it went there.
select distinct item_id from pipeline.transition where xid >= cast(:position as xid8) order by item_id;

-- name: of_cycle
select item_id from pipeline.decision where cycle_id = :cycle_id order by item_id;

-- name: bundles
select distinct bundle_id from pipeline.item_state where item_id = any (cast(:ids as bigint[])) and bundle_id is not null
union
select bundle_id from pipeline.item_history where item_id = any (cast(:ids as bigint[])) and bundle_id is not null;

-- name: remember
-- Only forward: two checks may end in another order than they began.
insert into pipeline.check_mark (position, checked_at, full_at)
values (cast(:position as xid8), pipeline.now(), coalesce(cast(:full_at as timestamptz), pipeline.now()))
on conflict (only_row) do update
  set position = case when check_mark.position > pg_snapshot_xmin(pg_current_snapshot()) then excluded.position
                      else greatest(check_mark.position, excluded.position) end,
      checked_at = excluded.checked_at, full_at = greatest(check_mark.full_at, excluded.full_at);
