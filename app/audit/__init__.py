"""What happened, by whom: append-only, written in the transaction of the change itself.

Words: an *audit event* is one thing that happened, named `feature.subject.verb`; its *subject* is
what it happened to, its *actor* who did it; the *personal part* holds addresses and values of
people, apart from the event, so that it can be erased while the event and its digest stay.

Decisions: somebody who isn't signed in is recorded as `system` without an id, because the contract
knows no other kind. Refusals that matter are events too (a failed login, a reused refresh token, a
denied staff action). The personal part is kept as the bytes that were digested.
"""
