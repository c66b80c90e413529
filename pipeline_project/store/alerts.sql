-- name: add
-- Whoever raises an alert may do so again after a crash: the key makes it one.
insert into pipeline.alert (raised_at, dedupe_key, pool, severity, kind, message, detail)
values (pipeline.now(), :dedupe_key, :pool, :severity, :kind, :message, cast(:detail as jsonb))
on conflict (dedupe_key) do nothing
returning alert_id;

-- name: listing
select raised_at, severity, kind, pool, message, detail from pipeline.alert order by alert_id desc limit :most;
