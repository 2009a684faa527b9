-- Run once on the primary, after roles.sql, as the superuser: lets one replica follow, and waits for it.
\getenv replica_password BURSAR_REPLICA_PASSWORD

CREATE ROLE bursar_replica REPLICATION LOGIN PASSWORD :'replica_password';

-- What the replica hasn't fetched yet is kept for it, but never until the disk is full.
SELECT FROM pg_create_physical_replication_slot('bursar_replica');
ALTER SYSTEM SET max_slot_wal_keep_size = '10GB';

-- A COMMIT is answered once it is on the replica's disk as well: nothing acknowledged is lost with the primary. While the
-- replica is away nothing commits, until it is back or somebody decides to go on without:
-- ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();
-- It counts from the next start on; until then nobody follows.
ALTER SYSTEM SET synchronous_standby_names = 'bursar_replica';
