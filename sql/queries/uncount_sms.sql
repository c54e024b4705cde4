-- Uncount: the SMS that was counted last by the key $1, of a number, and by the day
-- where $2, did not leave. Of several under one key the latest may be another one's,
-- which is as good. The day asks for the number's row, so that the number is locked first,
-- as count_sms.sql does it: what nobody asks for is done last.
with number as (
    update outbox.sms_counts
    set times = times[1:cardinality(times) - 1]
    where key = $1 and cardinality(times) > 0
    returning 1
)
update outbox.sms_counts
set count = count - 1
where $2::boolean and key = 'day ' || (clock_timestamp() at time zone 'UTC')::date and count > 0
  and (select count(*) from number) >= 0
