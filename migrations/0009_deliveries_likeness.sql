-- no transaction
--
-- Before something that a provider has is taken for a delivery, those that are like
-- it are asked whether it is theirs. An index on provider_id would say so directly,
-- and forbid HOT updates to every channel whose record has one. This one is on
-- what is known when the row is announced and does not change after.
--
-- It must not mention state or finished_at: "sending" -> "delivered" stays HOT.
create index concurrently if not exists deliveries_likeness on outbox.deliveries (likeness) where likeness is not null;
