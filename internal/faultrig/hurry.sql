-- Deliveries that wait, and that nobody works on, are due at once. Of those that are looked for, the minute
-- from the first look that was answered to the last takes $1 seconds, after which it
-- is over. What is over stays where it is, however often this runs.
update outbox.deliveries as d
set due_at = clock_timestamp(),
    looks = case when d.state = 'uncertain' and exists (
            select from jsonb_array_elements(d.looks) as e (l)
            where (l->>'attempt')::integer = d.attempts and l->>'verdict' <> 'failed'
              and (l->>'at')::timestamptz >= clock_timestamp() - interval '1 minute')
        then (
            select jsonb_agg(l || jsonb_build_object('at', (l->>'at')::timestamptz - interval '1 minute') order by n)
            from jsonb_array_elements(d.looks) with ordinality as e (l, n))
        else d.looks end
where d.state in ('retry', 'uncertain')
  -- What a listener works on is under its claim, a UUID of version 4, and due_at is the
  -- end of its lease, which is not the rig's to end.
  and (d.claim is null or substr(d.claim::text, 15, 1) = '5')
  and d.due_at > clock_timestamp() + interval '2 seconds'
  -- Its provider may have asked for three seconds.
  and not exists (select from outbox.attempts as a
                  where a.delivery_id = d.id and a.attempt = d.attempts and a.kind = 'throttled' and a.at > clock_timestamp() - interval '3 seconds')
  and (d.state = 'retry' or coalesce(
        (select min((l->>'at')::timestamptz) from jsonb_array_elements(d.looks) as e (l)
         where (l->>'attempt')::integer = d.attempts and l->>'verdict' <> 'failed'),
        '-infinity') < clock_timestamp() - make_interval(secs => $1::float8))
