-- Takes the rows of events whose deliveries are about to be recorded one by
-- one, in order of seq, so that two deliveries of one event that finish at
-- once see each other, and no two recorders wait for one another.
select seq from public.outbox_events where seq = any ($1::bigint[]) order by seq for no key update
