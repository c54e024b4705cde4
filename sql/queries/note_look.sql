-- Note: a look for delivery $1, held under claim $2, which took $3 seconds, came to
-- the verdict $4 for the reason $5, and found that it is $6 at the provider ('':
-- nothing was found). $7 is what it is alike by. Where another delivery is that already, or this one is no longer
-- held, nothing is written and there is no row. Runs after lock_likeness.sql where
-- something was found.
update outbox.deliveries as d
set looks = coalesce(d.looks, '[]') || jsonb_build_array(jsonb_build_object(
        'attempt', d.attempts, 'at', clock_timestamp(), 'took', $3::float8, 'verdict', $4::text, 'why', nullif($5::text, ''))),
    provider_id = coalesce(nullif($6::text, ''), d.provider_id)
where d.id = $1 and d.claim = $2 and d.finished_at is null
  and not exists (
      select from outbox.deliveries as o
      where o.likeness = $7::integer and o.id <> $1 and o.provider_id = nullif($6, ''))
returning d.id
