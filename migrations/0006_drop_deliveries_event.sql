-- no transaction
--
-- Each fresh delivery had an entry in it, for 66 bytes of log and about half a
-- microsecond. The primary key and deliveries_moved stand in for it.
drop index concurrently if exists outbox.deliveries_event;
