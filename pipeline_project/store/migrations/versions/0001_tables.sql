-- The whole schema of the state engine. Everything here belongs to pipeline_owner; grants come last, in 0001_roles.sql.

create type pipeline.state as enum
  ('pending', 'selected', 'claimed', 'completed', 'failed', 'expired', 'cancelled', 'quarantined');
create type pipeline.cycle_status as enum
  ('planned', 'committing', 'published', 'rolling_back', 'rolled_back', 'abandoned');

-- A row here makes the database a simulation, which alone can be told the time. See pipeline.now().
create table pipeline.clock (
  only_row boolean primary key default true check (only_row),
  at timestamptz not null
);

create table pipeline.pool (
  pool_id int generated always as identity primary key,
  name text not null unique check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  status text not null default 'active' check (status in ('active', 'paused')),
  created_at timestamptz not null
);

create table pipeline.policy (
  policy_id int generated always as identity primary key,
  pool_id int not null references pipeline.pool,
  version int not null check (version >= 1),
  hash text not null,
  document jsonb not null,
  actor text not null,
  created_at timestamptz not null,
  unique (pool_id, version)
);

-- What the last pull of a pool's source came to; the query itself lives in the policy.
create table pipeline.source (
  pool_id int primary key references pipeline.pool,
  pulled_at timestamptz,
  rows int,
  report jsonb,
  error text
);

create table pipeline.resource (
  resource_id bigint generated always as identity primary key,
  pool_id int not null references pipeline.pool,
  key text not null,
  kind text not null default 'renewable' check (kind in ('renewable', 'consumable')),
  capacity bigint not null,
  in_use bigint not null default 0,
  spent bigint not null default 0,
  unique (pool_id, key),
  constraint resource_not_overdrawn
    check (capacity >= 0 and in_use >= 0 and spent >= 0 and in_use <= capacity - spent)
) with (fillfactor = 50);

create table pipeline.bundle (
  bundle_id bigint generated always as identity primary key,
  pool_id int not null references pipeline.pool,
  key text not null,
  size int not null check (size between 1 and 1000),
  members int not null default 0,
  unique (pool_id, key),
  constraint bundle_not_overfull check (members between 0 and size)
);

-- The idempotency key outlives the item's body: a key is never used twice in a pool. No foreign keys from here on down the hot
-- path (a check per row is a third of an import): intake alone writes these rows, in one transaction with their parents, which
-- are never deleted; the invariants watch it.
create table pipeline.item_key (
  item_id bigint generated always as identity primary key,
  pool_id int not null,
  key text not null,
  submitted_at timestamptz not null,
  unique (pool_id, key)
);

-- Bodies by revision, never updated.
create table pipeline.item (
  item_id bigint not null,
  revision int not null,
  weight bigint not null check (weight >= 0),
  payload jsonb,
  not_before timestamptz,
  expires_at timestamptz,
  digest bytea not null,
  origin text not null check (origin in ('producer', 'source')),
  created_at timestamptz not null,
  primary key (item_id, revision) include (weight)
);

create table pipeline.item_demand (
  item_id bigint not null,
  revision int not null,
  resource_id bigint not null,
  quantity bigint not null check (quantity >= 1),
  primary key (item_id, revision, resource_id) include (quantity)
);

create table pipeline.cycle (
  cycle_id bigint generated always as identity primary key,
  pool_id int not null references pipeline.pool,
  policy_id int not null references pipeline.policy,
  cycle_key text not null,
  attempt int not null default 1,
  mode text not null check (mode in ('live', 'reprocess')),
  day date not null,
  status pipeline.cycle_status not null default 'planned',
  owner text,
  fence bigint not null default 0,
  lease_until timestamptz,
  engine_version text not null,
  artifact text not null,
  items int not null,
  value bigint not null,
  upper_bound bigint not null,
  proposed int not null,
  selected int,
  stale int,
  nofit int,
  deferred int,
  committed_value bigint,
  changed int,
  certificate jsonb not null,
  planned_at timestamptz not null,
  committing_at timestamptz,
  published_at timestamptz,
  closed_at timestamptz,
  reason text,
  hold_s int not null default 0,  -- a rollback keeps what it releases from being selected again for so long, whoever finishes it
  unique (pool_id, cycle_key, attempt)
);
-- The lock on a pool: at most one cycle of it is being written or unwritten.
create unique index cycle_in_flight on pipeline.cycle (pool_id) where status in ('committing', 'rolling_back');
create index cycle_by_day on pipeline.cycle (pool_id, day, cycle_id);

-- What each chunk of a commit did; a repeated chunk returns this and does nothing.
create table pipeline.cycle_chunk (
  cycle_id bigint not null references pipeline.cycle,
  chunk int not null,
  selected int not null,
  stale int not null,
  nofit int not null,
  value bigint not null,
  released int not null,
  primary key (cycle_id, chunk)
);

create table pipeline.executor (
  executor_id int generated always as identity primary key,
  pool_id int not null references pipeline.pool,
  name text not null,
  seen_at timestamptz not null,
  unique (pool_id, name)
);

-- Narrow and hot: one row per item, changed at every move. reason and detail say what the last move was for; the audit copies them.
create table pipeline.item_state (
  item_id bigint primary key,
  cycle_id bigint,
  bundle_id bigint,
  token bigint not null default 0,
  not_before timestamptz,
  expires_at timestamptz,
  hold_until timestamptz,
  lease_until timestamptz,
  pool_id int not null,
  version int not null,
  revision int not null,
  rank int,
  attempts int not null default 0,
  executor_id int,
  state pipeline.state not null,
  source_cancelled boolean not null default false,
  reason text,
  detail jsonb,
  constraint held_by_a_cycle check ((state in ('selected', 'claimed')) <= (cycle_id is not null)),
  constraint pending_is_free check (state <> 'pending' or (cycle_id is null and rank is null)),
  constraint claimed_has_lease check ((state = 'claimed') = (lease_until is not null and executor_id is not null)),
  constraint selected_has_hold check ((state = 'selected') = (hold_until is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index item_state_pending on pipeline.item_state (pool_id, item_id) where state = 'pending';
create index item_state_ready on pipeline.item_state (pool_id, rank, item_id) where state = 'selected';
create index item_state_hold on pipeline.item_state (hold_until) where state = 'selected';
create index item_state_lease on pipeline.item_state (lease_until) where state = 'claimed';
create index item_state_expiry on pipeline.item_state (expires_at) where state in ('pending', 'selected');
create index item_state_waking on pipeline.item_state (pool_id, not_before) where state = 'pending' and not_before is not null;
create index item_state_cycle on pipeline.item_state (cycle_id) where state in ('selected', 'claimed');
create index item_state_bundle on pipeline.item_state (bundle_id) where bundle_id is not null;

-- Capacity that items hold from selection until they end; summed in resource.in_use.
create view pipeline.hold as
  select s.pool_id, s.item_id, s.cycle_id, d.resource_id, d.quantity, s.state, s.hold_until, s.lease_until
    from pipeline.item_state s join pipeline.item_demand d using (item_id, revision)
   where s.state in ('selected', 'claimed');

-- Verdicts of a cycle on its items, without the deferred ones: those are in the cycle's artifact.
create table pipeline.decision (
  cycle_id bigint not null,
  item_id bigint not null,
  verdict text not null check (verdict in ('selected', 'stale', 'nofit', 'rejected', 'released')),
  rank int,
  version int not null,
  weight bigint not null,
  reason text,
  primary key (cycle_id, item_id)
);
create index decision_item on pipeline.decision (item_id, cycle_id);

-- The audit trail, written by triggers alone.
create sequence pipeline.transition_seq;
create table pipeline.transition (
  seq bigint not null default nextval('pipeline.transition_seq'),
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null,
  item_id bigint not null,
  cycle_id bigint,
  token bigint not null,
  pool_id int not null,
  version int not null,
  revision int not null,
  from_state pipeline.state,
  to_state pipeline.state not null,
  event text not null,
  session_name text not null default session_user,
  actor text not null,
  reason text,
  detail jsonb
) partition by range (at);
create index transition_item on pipeline.transition (item_id, version);
create index transition_xid on pipeline.transition (xid);
create index transition_at on pipeline.transition using brin (at);

create table pipeline.pool_event (
  event_id bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null,
  pool_id int not null references pipeline.pool,
  kind text not null,
  actor text not null,
  detail jsonb not null default '{}'
);
create index pool_event_xid on pipeline.pool_event (xid);

create table pipeline.audit_seal (
  seal_id bigint generated always as identity primary key,
  sealed_at timestamptz not null,
  from_xid xid8 not null,
  until_xid xid8 not null,
  rows bigint not null,
  root bytea not null,
  previous bytea,
  unique (from_xid)
);

create table pipeline.feed_cursor (
  consumer text primary key,
  position xid8 not null,
  moved_at timestamptz not null
);

create table pipeline.alert (
  alert_id bigint generated always as identity primary key,
  raised_at timestamptz not null,
  dedupe_key text not null unique,
  pool text,
  severity text not null check (severity in ('info', 'warning', 'error')),
  kind text not null,
  message text not null,
  detail jsonb not null default '{}'
);
