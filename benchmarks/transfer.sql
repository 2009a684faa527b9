-- What POST /credits/transfers sends, from C: claim, look-up, audit event, posting, stored answer.
-- The service reads the login session before, in a statement of its own.
-- `apart` gives each client two accounts that nobody else has, and with `shop` all pay the house.
\if :apart
\set from 2 * :client_id + 1
\set to :from + 1
\else
\set from random(1, :people)
\set to 1 + (:from - 1 + random(1, :people - 1)) % :people
\endif
\set key random(1, 4611686018427387903)
BEGIN;
SELECT pg_try_advisory_xact_lock(:key);
SELECT user_id, key, fingerprint, status, content_type, body, location, etag, created_at
FROM idempotency_keys
WHERE user_id = person(:from) AND key = 'pgbench-' || :key AND created_at > now() - interval '30 days';
WITH new AS (SELECT uuidv7() AS id), event AS (
    INSERT INTO audit_events (id, action, actor_kind, actor_id, subject_type, subject_id,
                              request_id, details, personal_digest, created_at)
    SELECT id, 'credits.transfer.created', 'user', person(:from), 'transfer', uuidv7(),
        md5(':key'), '{"to_user_id": "01900000-0000-7000-8000-000000000001", "amount": 1}',
        sha256('personal'), now()
    FROM new
)
INSERT INTO audit_personal (event_id, subject_id, salt, data)
SELECT id, person(:from), '\x00112233445566778899aabbccddeeff', '{"address":"127.0.0.1"}' FROM new;
SELECT id, kind, amount, from_account_id, to_account_id, order_id, reverses_id, actor_id,
    actor_kind, request_id, memo, created_at, hold_id
FROM post_transfer_v3(uuidv7(), CASE WHEN :shop THEN 'charge' ELSE 'transfer' END, person(:from),
                      CASE WHEN :shop THEN '00000000-0000-7000-8000-000000000002'::uuid
                           ELSE person(:to) END,
                      1, person(:from), 'user', md5(':key'), 'benchmark', now(),
                      uuidv7(), uuidv7(), NULL, NULL, NULL);
INSERT INTO idempotency_keys (user_id, key, fingerprint, status, content_type, body, location,
                              created_at)
VALUES (person(:from), 'pgbench-' || :key, sha256('request'), 201, 'application/json',
        convert_to(repeat('a', 320), 'UTF8'),
        '/api/v1/credits/transfers/01900000-0000-7000-8000-000000000001', now())
ON CONFLICT (user_id, key) DO UPDATE SET
    fingerprint = excluded.fingerprint, status = excluded.status,
    content_type = excluded.content_type, body = excluded.body, location = excluded.location,
    etag = excluded.etag, created_at = excluded.created_at;
COMMIT;
