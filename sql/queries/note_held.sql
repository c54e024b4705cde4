-- Note: since when the deliveries $1 are held, of those that were recorded as held in this
-- same transaction and were not held before: stuck_at is null of these. One that its
-- provider has reported meanwhile (note_report.sql) is uncertain and due instead: whoever
-- takes it has it delivered. What was held before stays so, whatever was reported: a
-- person may have held it.
--
-- Runs right after record_deliveries.sql, record_events.sql or record_orphans.sql, which
-- have the rows locked, and only where they were to record one as held. What they were
-- fenced off from was not written by this transaction, and is left alone.
update outbox.deliveries as d
set state    = case when d.provider_id is null then d.state else 'uncertain' end,
    due_at   = case when d.provider_id is null then d.due_at else clock_timestamp() end,
    stuck_at = case when d.provider_id is null then clock_timestamp() end
where d.id = any ($1::uuid[]) and d.state = 'held' and d.stuck_at is null
  and d.xmin = pg_current_xact_id()::xid
