-- Who may do what. pipeline_writer is the engine; nothing here is granted to PUBLIC.

revoke all on schema pipeline from public;
revoke all on all tables in schema pipeline from public;
revoke all on all functions in schema pipeline from public;

grant usage on schema pipeline to pipeline_writer, pipeline_executor, pipeline_operator, pipeline_reader, pipeline_auditor;
grant execute on function pipeline.now(), pipeline.actor(), pipeline.event_of(pipeline.state, pipeline.state)
  to pipeline_writer, pipeline_executor, pipeline_operator, pipeline_reader, pipeline_auditor;
grant select on pipeline.clock to pipeline_writer, pipeline_executor, pipeline_operator, pipeline_reader, pipeline_auditor;

grant select on all tables in schema pipeline to pipeline_writer, pipeline_reader, pipeline_operator;
grant select on pipeline.transition, pipeline.pool_event, pipeline.audit_seal, pipeline.decision, pipeline.cycle, pipeline.pool,
  pipeline.policy, pipeline.item_key to pipeline_auditor;
grant select on pipeline.pool, pipeline.item_key, pipeline.item_state to pipeline_executor;

-- The writer adds everywhere but to the audit trail, and changes only what moves. in_use and spent are the triggers' alone.
grant insert on pipeline.pool, pipeline.policy, pipeline.source, pipeline.resource, pipeline.bundle, pipeline.item_key, pipeline.item,
  pipeline.item_demand, pipeline.cycle, pipeline.cycle_chunk, pipeline.executor, pipeline.item_state, pipeline.decision,
  pipeline.pool_event, pipeline.audit_seal, pipeline.feed_cursor, pipeline.alert to pipeline_writer;
grant update on pipeline.item_state, pipeline.cycle, pipeline.source, pipeline.executor, pipeline.feed_cursor to pipeline_writer;
grant update (status) on pipeline.pool to pipeline_writer;
grant update (capacity) on pipeline.resource to pipeline_writer;
grant update (size, members) on pipeline.bundle to pipeline_writer;
grant usage on all sequences in schema pipeline to pipeline_writer;
revoke all on sequence pipeline.transition_seq from pipeline_writer;
grant execute on function pipeline.advance_clock(timestamptz), pipeline.ensure_partitions(int) to pipeline_writer;
