"""Signing keys of access tokens, and the master keys that everything else is derived from.

Words: a *master key* comes from the settings and has a version; the first one encrypts and signs,
all of them verify; no use has it bare, each derives its own by a label (HKDF, RFC 5869). A *signing
key* is an Ed25519 pair in the database, its private part encrypted under the master key.

Decisions: the first signing key is made on first need, by the service itself, so that a fresh
database needs no command. Each worker keeps the key set in memory and reads it again every half a
minute, and earlier when a token names a key that it doesn't know. With HS256 there is no key pair,
and the published set is empty.
"""
