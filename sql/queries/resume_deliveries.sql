-- Resume: deliveries that a pause has kept back for one of the reasons $1, $2 of them
-- at the most, are due at once. Whoever ends the pause runs it, and each listener when it hears
-- of the end, for what it put off meanwhile. What a listener works on at this
-- moment is left to it; in the worst case it is due by itself after some minutes.
--
-- The claim says whether a delivery is leased: see judge_deliveries.sql.
with kept as materialized (
    select d.id
    from outbox.deliveries as d
    where d.due_at > clock_timestamp() and d.finished_at is null and d.last_error = any ($1::text[])
      and (d.claim is null or get_byte(uuid_send(d.claim), 6) >> 4 = 5)
    order by d.due_at
    limit $2
    for no key update skip locked
)
update outbox.deliveries as d
set due_at = clock_timestamp()
from kept
where d.id = kept.id
