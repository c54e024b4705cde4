-- Record: a delivery whose statement runs in this same transaction, once this
-- has answered "go". "done" means that an earlier try was committed and its answer
-- lost; no row means that it was taken over.
with go as (
    update outbox.deliveries as d
    set state = 'delivered', attempts = $3, last_error = null, due_at = null, claim = $4, content = null,
        finished_at = clock_timestamp(), stuck_at = null
    where d.id = $1 and d.claim = $2 and d.finished_at is null
    returning d.id
)
select 'go' from go
union all
select 'done' from outbox.deliveries as d where d.id = $1 and d.claim = $4 and d.state = 'delivered'
