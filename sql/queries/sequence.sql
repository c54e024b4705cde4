-- The highest number that was handed out so far.
select case when is_called then last_value else last_value - 1 end from public.outbox_events_seq_seq
