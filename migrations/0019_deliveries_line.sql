-- no transaction
--
-- Who stands in a line: first whoever has the turn, then those that wait, by
-- seq. What is over leaves it, so that nobody walks past what was delivered.
--
-- The columns change for deliveries in a line alone: the updates of all others
-- stay HOT.
create index concurrently if not exists deliveries_line on outbox.deliveries (line, turn_at, event_seq) where line is not null;
