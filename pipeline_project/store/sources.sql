-- name: record
insert into pipeline.source (pool_id, pulled_at, rows, report, error)
values (:pool_id, pipeline.now(), :rows, cast(:report as jsonb), :error)
on conflict (pool_id) do update
  set pulled_at = excluded.pulled_at, error = excluded.error,
      rows = coalesce(excluded.rows, source.rows), report = coalesce(excluded.report, source.report);

-- name: due
select p.name
  from pipeline.pool p
  join lateral (select document from pipeline.policy y where y.pool_id = p.pool_id order by version desc limit 1) y on true
  left join pipeline.source s using (pool_id)
 where p.status = 'active' and jsonb_typeof(y.document -> 'source') = 'object'
   and (s.pulled_at is null or s.pulled_at <= pipeline.now() - cast(y.document #>> '{source,every}' as interval))
 order by p.name;

-- name: state
select pulled_at, rows, report, error from pipeline.source where pool_id = :pool_id;
