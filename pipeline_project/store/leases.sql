-- Claims are functions of the database, so that any language can be an executor. What they lock, and why, stands with them in
-- migrations/versions/0002_executors.sql, with `claim` and `heartbeat` in 0008_limits.sql, `complete` and `fail` in 0009_sizes.sql.

-- name: claim
select * from pipeline.claim(:pool, :executor, cast(:most as int), cast(:ttl as interval), :request, cast(:keys as text[]));

-- name: complete
select * from pipeline.complete(:pool, cast(:items as text[]), cast(:tokens as bigint[]), cast(:results as jsonb), :executor);

-- name: turn
-- Completions, then claims, in this order, for a claim is made under no lock that is waited for: UNION ALL runs its parts one after the
-- other, and each statement inside the functions sees what is committed when it begins. What was claimed has no `accepted`.
select item, token, accepted, state, reason, null::jsonb as payload, null::timestamptz as lease_until, null::int as attempt
  from pipeline.complete(:pool, cast(:items as text[]), cast(:tokens as bigint[]), cast(:results as jsonb), :executor)
union all
select item, token, null, null, null, payload, lease_until, attempt
  from pipeline.claim(:pool, :executor, cast(:most as int), cast(:ttl as interval), :request);

-- name: fail
select * from pipeline.fail(:pool, cast(:items as text[]), cast(:tokens as bigint[]), :error, :executor);

-- name: heartbeat
select pipeline.heartbeat(:pool, :executor, cast(:ttl as interval));

-- name: lapse
select claims, executors from pipeline.lapse(:most);
