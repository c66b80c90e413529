-- An alert is an episode of a condition: open while it lasts, recovered when it has ended; the next time it is another row.

alter table pipeline.alert
  add column state text not null default 'open' check (state in ('open', 'recovered')),
  add column last_seen timestamptz,
  add column count int not null default 1,
  add column observed_at timestamptz,  -- by the observer's clock: what it saw before this is no news
  add column recovered_at timestamptz,
  add column acked_at timestamptz,
  add column acked_by text,
  add column raised_planned boolean not null default false,  -- are there deliveries for its beginning, for its end?
  add column recovered_planned boolean not null default false,
  add constraint alert_recovered_has_time check ((state = 'recovered') = (recovered_at is not null));
update pipeline.alert set last_seen = raised_at, observed_at = raised_at, raised_planned = true;
alter table pipeline.alert alter column last_seen set not null, alter column observed_at set not null;
alter table pipeline.alert drop constraint alert_dedupe_key_key;
create unique index alert_open on pipeline.alert (dedupe_key) where state = 'open';
create index alert_key on pipeline.alert (dedupe_key, observed_at);
create index alert_unplanned on pipeline.alert (alert_id) where not raised_planned or (state = 'recovered' and not recovered_planned);

-- One row a route of the routes file: the lock under which its messages are counted, and how long it rests after a failure.
create table pipeline.alert_route (
  route_id int generated always as identity primary key,
  name text not null unique,
  failures int not null default 0,
  next_attempt_at timestamptz,
  last_error text
);

-- The outbox: what a route is to be told. `message` is the sending it belongs to; who holds it until lease_until may send it.
create table pipeline.alert_delivery (
  delivery_id bigint generated always as identity primary key,
  alert_id bigint not null references pipeline.alert,
  route_id int not null references pipeline.alert_route,
  notice text not null check (notice in ('raised', 'recovered')),
  state text not null default 'due' check (state in ('due', 'sent', 'dropped')),
  attempts int not null default 0,
  created_at timestamptz not null,
  next_attempt_at timestamptz not null,
  lease_until timestamptz,
  message uuid,
  sent_at timestamptz,
  last_error text,
  unique (alert_id, notice, route_id),
  constraint alert_delivery_sent_has_time check ((state = 'sent') = (sent_at is not null))
);
create index alert_delivery_due on pipeline.alert_delivery (route_id, delivery_id) where state = 'due';
create index alert_delivery_sent on pipeline.alert_delivery (route_id, sent_at) where state = 'sent';

revoke all on pipeline.alert_route, pipeline.alert_delivery from public;
grant select on pipeline.alert_route, pipeline.alert_delivery to pipeline_writer, pipeline_reader, pipeline_operator;
grant insert, update on pipeline.alert_route, pipeline.alert_delivery to pipeline_writer;
grant update (severity, message, detail, state, last_seen, count, observed_at, recovered_at, acked_at, acked_by, raised_planned,
  recovered_planned) on pipeline.alert to pipeline_writer;
