-- How many events and deliveries are leased under a claim that the process $1 made.
with mine as (
    select distinct claim from faultrig.changes where app = $1 and claim is not null
)
select (select count(*) from outbox_events as e
        where e.processed_at is null and isfinite(e.lease_until) and e.lease_until > clock_timestamp()
          and e.claim in (select claim from mine))
     + (select count(*) from outbox.deliveries as d
        where d.finished_at is null and d.state in ('ready', 'sending') and d.due_at > clock_timestamp()
          and d.claim in (select claim from mine))
