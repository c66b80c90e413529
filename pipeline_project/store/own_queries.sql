-- name: wrapped
-- A stranger's query stands inside. The parentheses and the parameter make sure that it can be nothing but one query.
with fault as materialized (
{query}
)
select fault.* from fault where cast(:pool as text) is not null limit :most;
