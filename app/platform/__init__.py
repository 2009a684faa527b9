"""What every feature may use, and that knows no feature.

Edge, settings, database, errors, guards, idempotency, pagination and the like: one module per
concern. Nothing here imports from a feature package; `create_app` hands in what a feature offers.

Decisions: limits are counted by our own `ratelimit`. Libraries for it (limits, flask-limiter) test
first or can't give back, don't count in PostgreSQL, and would need more code around them.
"""
