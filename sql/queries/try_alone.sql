-- Note: whether ($2) the event or delivery $1 is tried alone.
update outbox.crashes as c set alone = $2::boolean where c.id = $1::uuid
