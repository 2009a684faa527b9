"""Signing keys on the wire."""

from marshmallow import Schema, fields


class JwkOut(Schema):
    """A public key (RFC 7517, RFC 8037)."""

    kty = fields.String(metadata={"example": "OKP"})
    crv = fields.String(metadata={"example": "Ed25519"})
    x = fields.String()
    kid = fields.String()
    use = fields.String(metadata={"example": "sig"})
    alg = fields.String(metadata={"example": "EdDSA"})


class JwksOut(Schema):
    """The keys that verify access tokens; none when they are signed with a shared secret."""

    keys = fields.List(fields.Nested(JwkOut))
