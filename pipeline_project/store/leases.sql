-- Claims are functions of the database, so that any language can be an executor. What they lock, and why, stands with them in
-- migrations/versions/0002_executors.sql.

-- name: claim
select * from pipeline.claim(:pool, :executor, :most, cast(:ttl as interval), :request, cast(:keys as text[]));

-- name: complete
select * from pipeline.complete(:pool, cast(:items as text[]), cast(:tokens as bigint[]), cast(:results as jsonb), :executor);

-- name: fail
select * from pipeline.fail(:pool, cast(:items as text[]), cast(:tokens as bigint[]), :error, :executor);

-- name: heartbeat
select pipeline.heartbeat(:pool, :executor, cast(:ttl as interval));

-- name: lapse
select claims, executors from pipeline.lapse(:most);
