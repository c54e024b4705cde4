-- How many events and deliveries are leased under a claim that the process $1 made. That is a UUID of
-- version 4, whatever the state: a lease leaves that as it is. Those of records, and of events that are put off, are of version 5, and no lease.
with mine as (
    select distinct claim from faultrig.changes where app = $1 and claim is not null
)
select (select count(*) from outbox_events as e
        where e.processed_at is null and isfinite(e.lease_until) and e.lease_until > clock_timestamp()
          and substr(e.claim::text, 15, 1) = '4' and e.claim in (select claim from mine))
     + (select count(*) from outbox.deliveries as d
        where d.finished_at is null and substr(d.claim::text, 15, 1) = '4' and d.due_at > clock_timestamp()
          and d.claim in (select claim from mine))
