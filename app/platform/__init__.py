"""What every feature may use, and that knows no feature.

Edge, settings, database, errors, guards, idempotency, pagination and the like: one module per
concern. Nothing here imports from a feature package; `create_app` hands in what a feature offers.
"""
