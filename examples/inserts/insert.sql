-- The event is committed with the change that it stands for, or not at all.
--
--     psql "$DATABASE_URL" -f insert.sql
create table if not exists bookings (
    id        bigint generated always as identity primary key,
    customer  text not null,
    phone     text,
    starts_at timestamptz not null
);

begin;

with booking as (
    insert into bookings (customer, phone, starts_at)
    values ('Ann', '+12025550123', '2031-01-05 15:04-05')
    returning id
)
insert into outbox_events (type, payload)
select 'booking.created', jsonb_build_object('bookingId', id)
from booking;

commit;
