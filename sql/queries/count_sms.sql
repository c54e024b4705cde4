-- Count: one more SMS to the number whose key is $1, of which $2 may begin within an
-- hour, on a day of which $3 may, in UTC; null where there is no limit. Says which
-- limit keeps it back; "" when it is counted.
--
-- What the day's limit keeps back counts for its number all the same, for an hour.
with number as (
    insert into outbox.sms_counts as c (key, count, times)
    select $1::text, 0, array[clock_timestamp()]
    where $2::integer is not null
    on conflict (key) do update
    set times = array(select t from unnest(c.times) as t where t > clock_timestamp() - interval '1 hour') || clock_timestamp(),
        at = clock_timestamp()
    where (select count(*) from unnest(c.times) as t where t > clock_timestamp() - interval '1 hour') < $2
    returning 1
), day as (
    insert into outbox.sms_counts as c (key, count, times)
    select 'day ' || (clock_timestamp() at time zone 'UTC')::date, 1, '{}'
    where $3::integer is not null and ($2::integer is null or exists (select from number))
    on conflict (key) do update
    set count = c.count + 1, at = clock_timestamp()
    where c.count < $3
    returning 1
)
select case when $2::integer is not null and not exists (select from number) then 'number'
            when $3::integer is not null and not exists (select from day) then 'day'
            else '' end
