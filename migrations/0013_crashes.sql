-- Events and deliveries whose listener ended, or lost its lease, while it had
-- them: what brings listeners down is among them. See docs/design.md. A row
-- that is a day old says nothing any more.
create table if not exists outbox.crashes (
    id    uuid        primary key,             -- of the event, or of the delivery where that is on its own
    count integer     not null,
    alone boolean     not null default false,  -- whether it is tried with none beside it that is suspected, too
    at    timestamptz not null default clock_timestamp()
);
