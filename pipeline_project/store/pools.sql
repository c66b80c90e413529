-- name: create
insert into pipeline.pool (name, created_at) values (:name, pipeline.now()) on conflict do nothing returning pool_id;

-- name: find
select p.pool_id, p.name, p.status, y.policy_id, y.version as policy_version, y.hash as policy_hash, y.document
  from pipeline.pool p
  left join lateral (select * from pipeline.policy y where y.pool_id = p.pool_id order by y.version desc limit 1) y on true
 where p.name = :name;

-- name: everyone
select p.pool_id, p.name, p.status, y.policy_id, y.version as policy_version, y.hash as policy_hash, y.document
  from pipeline.pool p
  left join lateral (select * from pipeline.policy y where y.pool_id = p.pool_id order by y.version desc limit 1) y on true
 order by p.name;

-- name: names
select name from pipeline.pool order by name;

-- name: overview
select p.name as pool, p.status, y.version as policy_version,
       (select count(*) from pipeline.item_state s where s.pool_id = p.pool_id and s.state = 'pending') as pending,
       (select count(*) from pipeline.item_state s where s.pool_id = p.pool_id and s.state = 'selected') as selected,
       (select count(*) from pipeline.item_state s where s.pool_id = p.pool_id and s.state = 'claimed') as claimed,
       (select count(*) from pipeline.resource r where r.pool_id = p.pool_id) as resources,
       (select max(c.published_at) from pipeline.cycle c where c.pool_id = p.pool_id) as last_published
  from pipeline.pool p
  left join lateral (select version from pipeline.policy y where y.pool_id = p.pool_id order by version desc limit 1) y on true
 order by p.name;

-- name: set_status
update pipeline.pool set status = :status where pool_id = :pool_id and status <> :status returning pool_id;

-- name: lock
-- Two appliers get two versions, and not one conflict. In a statement of its own: the next one sees what was there after the wait.
select pool_id from pipeline.pool where pool_id = :pool_id for no key update;

-- name: add_policy
insert into pipeline.policy (pool_id, version, hash, document, actor, created_at)
select :pool_id, 1 + coalesce(max(version), 0), :hash, cast(:document as jsonb), pipeline.actor(), pipeline.now()
  from pipeline.policy where pool_id = :pool_id
returning policy_id, version;

-- name: policy_of_version
select version, hash, document, actor, created_at from pipeline.policy where pool_id = :pool_id and version = :version;

-- name: record_event
insert into pipeline.pool_event (at, pool_id, kind, actor, detail)
values (pipeline.now(), :pool_id, :kind, pipeline.actor(), cast(:detail as jsonb));
