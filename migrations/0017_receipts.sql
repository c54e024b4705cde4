-- What a provider reports about a delivery after it took it: Twilio's status
-- callbacks. All null for those of which nothing was reported. No index has them,
-- so that noting one is a HOT update.
alter table outbox.deliveries
    add column if not exists receipt      text,         -- queued, sent, canceled, failed, undelivered, delivered
    add column if not exists receipt_code text,         -- the provider's reason, such as Twilio's error code
    add column if not exists receipt_at   timestamptz;  -- when it was reported

-- The step of its route in whose place a delivery is sent, where that one does not
-- arrive; null for all others.
alter table outbox.deliveries add column if not exists instead_of text;
