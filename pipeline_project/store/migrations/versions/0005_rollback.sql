-- Every move writes one transition and settles the capacity it takes or gives back. The old and the new rows are joined once: what
-- was written says which moves touch a capacity, and one that touches none (a claim, a retry, a lease prolonged) ends there.
-- Nested loops are off because a cached plan made for one row would join 20,000 by 20,000; the any(array) conditions keep the access
-- to the large tables by index.
create or replace function pipeline.record_moves() returns trigger language plpgsql security definer
  set search_path = pipeline, pg_temp
  set enable_nestloop = off as $$
declare
  moved bigint[];
  touched bigint[];
  deltas bigint[];
  spends bigint[];
begin
  with written as (
    insert into transition (at, item_id, cycle_id, token, pool_id, version, revision, from_state, to_state, event, actor, reason, detail)
    select (select pipeline.now()), n.item_id, coalesce(n.cycle_id, o.cycle_id), n.token, n.pool_id, n.version, n.revision,
           o.state, n.state, event_of(o.state, n.state), (select pipeline.actor()), n.reason, n.detail
      from after_rows n join before_rows o using (item_id)
     where n.version <> o.version
    returning item_id, from_state, to_state)
  select array_agg(item_id) into moved from written
   where (from_state in ('selected', 'claimed')) <> (to_state in ('selected', 'claimed'));
  if moved is null then
    return null;
  end if;

  select array_agg(t.resource_id), array_agg(t.delta), array_agg(t.spend) into touched, deltas, spends
    from (select d.resource_id,
                 sum(case when n.state = 'selected' then d.quantity else -d.quantity end) as delta,
                 sum(case when n.state = 'completed' then d.quantity else 0 end) as spend
            from after_rows n join item_demand d using (item_id, revision)
           where n.item_id = any (moved) and d.item_id = any (moved)
           group by d.resource_id) t;
  -- In id order, after the items: the one lock order of this schema.
  perform from resource r where r.resource_id = any (touched) order by r.resource_id for no key update;
  update resource r
     set in_use = r.in_use + t.delta,
         spent = r.spent + case r.kind when 'consumable' then t.spend else 0 end
    from unnest(touched, deltas, spends) as t (resource_id, delta, spend)
   where r.resource_id = any (touched) and r.resource_id = t.resource_id;
  return null;
end $$;

-- Whoever finishes a rollback also submits what makes up for completed items, if its operator asked for that.
alter table pipeline.cycle add column compensate boolean not null default false;
