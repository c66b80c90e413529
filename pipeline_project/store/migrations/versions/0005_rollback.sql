-- Whoever finishes a rollback also submits what makes up for completed items, if its operator asked for that.
alter table pipeline.cycle add column compensate boolean not null default false;

-- Dead letters are few among many completed items.
create index item_state_dead on pipeline.item_state (pool_id, item_id) where state in ('failed', 'quarantined');
