-- name: lock_key
-- Whoever raises or ends the same alert waits here: there may be no row yet that could be locked.
select pg_advisory_xact_lock(hashtextextended('pipeline.alert ' || :dedupe_key, 0));

-- name: seen_since
-- Was something of this key observed at that time or later? Then this is old news: a tick that was cut off comes again.
select exists (select from pipeline.alert
                where dedupe_key = :dedupe_key and observed_at >= coalesce(cast(:observed_at as timestamptz), pipeline.now()));

-- name: repeat
-- It lasts. A higher severity than before is told to those routes that only hear of such.
update pipeline.alert
   set last_seen = pipeline.now(), observed_at = coalesce(cast(:observed_at as timestamptz), pipeline.now()), count = count + 1,
       message = :message, detail = cast(:detail as jsonb),
       raised_planned = raised_planned
         and array_position(array['info', 'warning', 'error'], :severity) <= array_position(array['info', 'warning', 'error'], severity),
       severity = case when array_position(array['info', 'warning', 'error'], :severity)
                            > array_position(array['info', 'warning', 'error'], severity) then :severity else severity end
 where dedupe_key = :dedupe_key and state = 'open'
returning alert_id;

-- name: add
insert into pipeline.alert (raised_at, last_seen, observed_at, dedupe_key, pool, severity, kind, message, detail)
values (pipeline.now(), pipeline.now(), coalesce(cast(:observed_at as timestamptz), pipeline.now()), :dedupe_key, :pool, :severity, :kind,
        :message, cast(:detail as jsonb));

-- name: recover
update pipeline.alert
   set state = 'recovered', recovered_at = pipeline.now(), last_seen = pipeline.now(),
       observed_at = coalesce(cast(:observed_at as timestamptz), pipeline.now())
 where dedupe_key = :dedupe_key and state = 'open'
   and observed_at <= coalesce(cast(:observed_at as timestamptz), pipeline.now())
returning alert_id;

-- name: open_keys
select dedupe_key from pipeline.alert where state = 'open' and kind = any (cast(:kinds as text[])) order by dedupe_key;

-- name: ack
update pipeline.alert set acked_at = pipeline.now(), acked_by = :actor
 where alert_id = any (cast(:ids as bigint[])) and acked_at is null
returning alert_id;

-- name: drop_acked
-- Who has seen it need not be told of its beginning any more. Of its end, yes.
update pipeline.alert_delivery set state = 'dropped', last_error = 'acknowledged by ' || :actor
 where alert_id = any (cast(:ids as bigint[])) and state = 'due' and notice = 'raised' and lease_until is null;

-- name: listing
select a.alert_id, a.raised_at, a.last_seen, a.recovered_at, a.state, a.severity, a.kind, a.pool, a.message, a.count, a.dedupe_key, a.detail,
       a.acked_at, a.acked_by,
       coalesce((select jsonb_agg(jsonb_build_object('route', r.name, 'notice', d.notice, 'state', d.state, 'attempts', d.attempts,
                                                     'next_attempt_at', case d.state when 'due' then d.next_attempt_at end,
                                                     'sent_at', d.sent_at, 'last_error', d.last_error) order by d.delivery_id)
                   from pipeline.alert_delivery d join pipeline.alert_route r using (route_id) where d.alert_id = a.alert_id), '[]') as deliveries
  from pipeline.alert a
 where (cast(:pool as text) is null or a.pool = :pool) and (cast(:state as text) is null or a.state = :state)
 order by a.alert_id desc limit :most;

-- name: unplanned
-- Not waiting: whoever has one of these is planning it.
select alert_id, severity, kind, pool, not raised_planned as raised, state = 'recovered' and not recovered_planned as recovered
  from pipeline.alert where not raised_planned or (state = 'recovered' and not recovered_planned)
 order by alert_id limit :most for no key update skip locked;

-- name: know_route
insert into pipeline.alert_route (name) values (:name) on conflict (name) do nothing;

-- name: plan
insert into pipeline.alert_delivery (alert_id, route_id, notice, created_at, next_attempt_at)
select u.alert_id, r.route_id, u.notice, pipeline.now(), pipeline.now()
  from unnest(cast(:alerts as bigint[]), cast(:notices as text[]), cast(:routes as text[])) u (alert_id, notice, route)
  join pipeline.alert_route r on r.name = u.route
 order by u.alert_id, u.notice
on conflict (alert_id, notice, route_id) do nothing;

-- name: planned
update pipeline.alert set raised_planned = true, recovered_planned = recovered_planned or state = 'recovered'
 where alert_id = any (cast(:ids as bigint[]));

-- name: lock_route
-- Under it messages are counted: two deliverers never send one too many. One that is busy here is delivering, so nobody waits.
select route_id, failures, coalesce(next_attempt_at > pipeline.now(), false) as resting from pipeline.alert_route
 where name = :name for no key update skip locked;

-- name: messages_since
-- Sent in the window, or being sent at this moment.
select count(distinct message) from pipeline.alert_delivery
 where route_id = :route_id
   and ((state = 'sent' and sent_at > pipeline.now() - make_interval(secs => :per_s)) or (state = 'due' and lease_until > pipeline.now()));

-- name: take
-- The least tried first: what a receiver will not have does not stop the others. A lapsed lease is of a deliverer that died; it may
-- have sent its message, and then this sends it once more.
update pipeline.alert_delivery d
   set lease_until = pipeline.now() + make_interval(secs => :lease_s), message = cast(:message as uuid), attempts = attempts + 1
 where d.delivery_id in (
   select delivery_id from pipeline.alert_delivery
    where route_id = :route_id and state = 'due' and (lease_until is null or lease_until <= pipeline.now())
    order by attempts, delivery_id limit :most for no key update skip locked);

-- name: taken
select d.delivery_id, d.notice, d.attempts, a.alert_id, a.severity, a.kind, a.pool, a.message, a.detail, a.raised_at, a.recovered_at, a.count
  from pipeline.alert_delivery d join pipeline.alert a using (alert_id)
 where d.message = cast(:message as uuid) order by d.delivery_id;

-- name: sent
-- Who lost its lease finds its message gone, and says nothing.
update pipeline.alert_delivery set state = 'sent', sent_at = pipeline.now(), lease_until = null, last_error = null
 where message = cast(:message as uuid) and state = 'due';

-- name: route_works
update pipeline.alert_route set failures = 0, next_attempt_at = null, last_error = null where route_id = :route_id;

-- name: route_fails
update pipeline.alert_route
   set failures = failures + 1, last_error = :error,
       next_attempt_at = pipeline.now() + make_interval(secs => least(:backoff_s * 2 ^ least(failures, 20), :backoff_max_s))
 where route_id = :route_id
returning next_attempt_at;

-- name: failed
update pipeline.alert_delivery set lease_until = null, last_error = :error, next_attempt_at = :next_attempt_at
 where message = cast(:message as uuid) and state = 'due';

-- name: give_up
-- A week of trying. They stay in the list.
update pipeline.alert_delivery set state = 'dropped', last_error = coalesce(last_error, 'its route is not in the routes file')
 where state = 'due' and created_at < pipeline.now() - make_interval(secs => :after_s) and (lease_until is null or lease_until <= pipeline.now());

-- name: route_states
select r.name, r.failures, r.next_attempt_at, r.last_error,
       (select count(*) from pipeline.alert_delivery d where d.route_id = r.route_id and d.state = 'due') as due
  from pipeline.alert_route r order by r.name;

-- name: stuck_cycles
-- In flight with a lease that lapsed long ago: nobody has come to finish it.
select c.cycle_key, p.name as pool, c.status::text as status, c.owner, extract(epoch from pipeline.now() - c.lease_until)::bigint as silent_s
  from pipeline.cycle c join pipeline.pool p using (pool_id)
 where c.status in ('committing', 'rolling_back') and c.lease_until < pipeline.now() - make_interval(secs => :longer_than_s)
 order by c.cycle_id;

-- name: feed_lag
-- Committed, and still above the horizon: some transaction that began before has not ended, and no reader of the feed may go past it.
select coalesce(extract(epoch from pipeline.now() - min(waiting.at)), 0)::bigint as lag_s, count(*) as rows
  from (select t.at from pipeline.transition t where t.xid >= pg_snapshot_xmin(pg_current_snapshot())
        union all
        select e.at from pipeline.pool_event e where e.xid >= pg_snapshot_xmin(pg_current_snapshot())) waiting;

-- name: waiting
-- For each active pool: how many items starve, how many no cycle came to look at, and the first keys of both. One pass for all pools.
select p.name as pool, w.starving, w.longest_s, w.starving_keys, w.overlooked, w.oldest_s, w.overlooked_keys
  from unnest(cast(:pools as text[]), cast(:max_wait_s as bigint[]), cast(:max_age_s as bigint[])) u (name, max_wait_s, max_age_s)
  join pipeline.pool p on p.name = u.name,
  lateral (
    select count(*) filter (where starving) as starving, coalesce(max(waited_s) filter (where starving), 0) as longest_s,
           coalesce((array_agg(key order by waited_s desc, key) filter (where starving))[1:10], '{}') as starving_keys,
           count(*) filter (where overlooked) as overlooked, coalesce(max(waited_s) filter (where overlooked), 0) as oldest_s,
           coalesce((array_agg(key order by waited_s desc, key) filter (where overlooked))[1:10], '{}') as overlooked_keys
      from (select k.key, extract(epoch from (select pipeline.now()) - r.ready_at)::bigint as waited_s,
                   r.ready_at <= (select pipeline.now()) - make_interval(secs => u.max_wait_s)
                     and not exists (select from pipeline.decision d where d.item_id = s.item_id and d.verdict = 'selected') as starving,
                   r.ready_at <= (select pipeline.now()) - make_interval(secs => u.max_age_s)
                     and r.ready_at > coalesce((select max(c.planned_at) from pipeline.cycle c where c.pool_id = p.pool_id), '-infinity') as overlooked
              from pipeline.item_state s join pipeline.item_key k using (item_id),
                   lateral (select greatest(k.submitted_at, s.not_before) as ready_at) r
             where s.pool_id = p.pool_id and s.state = 'pending'
               and r.ready_at <= (select pipeline.now()) - make_interval(secs => least(u.max_wait_s, u.max_age_s))
           ) judged) w
 where p.status = 'active';
