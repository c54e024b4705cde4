-- Lock: the lines $1 until the transaction ends, in one order, so that of two who
-- pass the turn of one line the later one sees what the other did. Taken while nothing else
-- is held, and before the statement that reads.
select pg_advisory_xact_lock(hashtextextended('outbox line ' || k.line, 0))
from (select distinct line from unnest($1::text[]) as t (line) order by line) as k
