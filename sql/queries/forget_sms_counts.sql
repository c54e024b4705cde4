-- Forget: counts of SMS that say nothing any more.
delete from outbox.sms_counts where at < clock_timestamp() - interval '2 days'
