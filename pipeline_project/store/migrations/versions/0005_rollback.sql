-- Whoever finishes a rollback also submits what makes up for completed items, if its operator asked for that.
alter table pipeline.cycle add column compensate boolean not null default false;
