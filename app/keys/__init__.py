"""Signing keys of access tokens, and the master keys that everything else is derived from.

Words: a *master key* comes from the settings and has a version; the first one encrypts and signs,
all of them verify; no use has it bare, each derives its own by a label (HKDF, RFC 5869). A *signing
key* is an Ed25519 pair in the database, its private part encrypted under the master key. It is
*published*, *active* (one is: it signs), *retiring* and then deleted; or *revoked*.

Decisions: keys need no command and no job. A worker that looks at them, every half a minute, does
whatever is due by their rows and the time, under one lock; the first key is made like that too. A
worker keeps the set in memory and relies on it for nothing that must count at once: an unknown key
is looked for, the active one is asked for before each signature, and the one read of every request
sees that the token's key isn't revoked. So no rotation ever has to wait for the slowest worker.
With HS256 there is no key pair, and the published set is empty.
"""
