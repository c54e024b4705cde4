-- Pauses: what is not sent for the time being. Asked for with each sweep; where
-- nobody has paused anything the table is empty.
select kind, pattern, since, who, reason from outbox.pauses order by since, kind, pattern
