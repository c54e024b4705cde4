-- Which database this is: that of its cluster, which pg_basebackup and a failover
-- keep and initdb and a restored dump do not, and its own in it.
select (select system_identifier from pg_control_system()) || '/' ||
       (select oid from pg_database where datname = current_database())
