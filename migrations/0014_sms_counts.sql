-- How many SMS went to a number in the last hour, and to all in a day: see
-- listener/smslimits.go. Empty unless one of these is limited.
create table if not exists outbox.sms_counts (
    key   text          primary key,  -- 'day ' and the date in UTC, or 'to ' and a hash of the number
    count integer       not null,     -- of the day
    times timestamptz[] not null,     -- of the number: when its last ones began
    at    timestamptz   not null default clock_timestamp()
);
