-- Uncount: the SMS that was counted last by the key $1, of a number, and by the day
-- where $2, did not leave. Of several under one key the latest may be another one's,
-- which is as good.
with number as (
    update outbox.sms_counts
    set times = times[1:cardinality(times) - 1]
    where key = $1 and cardinality(times) > 0
)
update outbox.sms_counts
set count = count - 1
where $2::boolean and key = 'day ' || (clock_timestamp() at time zone 'UTC')::date and count > 0
