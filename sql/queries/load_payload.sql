-- The size in bytes of the payload of event $1, and its text where it is not
-- larger than $2 bytes.
select octet_length(p.t), case when octet_length(p.t) <= $2::integer then p.t end
from (select coalesce(payload::text, 'null') as t from public.outbox_events where seq = $1 offset 0) as p
