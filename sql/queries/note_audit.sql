-- Audit: who did what, in the transaction that does it. The arguments are the
-- columns of outbox.audit from run on, without role.
insert into outbox.audit (run, who, via, origin, action, filter, count, deliveries, reason)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
