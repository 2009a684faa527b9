"""HTTP of the signing keys."""

import hashlib

from flask import Response

from app.keys import service
from app.keys.schemas import JwksOut
from app.platform import http
from app.platform.guards import public

blp = http.Blueprint("keys", __name__, description="Public keys of access tokens.")

# Clients look again within ten minutes; a new key is published twenty minutes before it signs.
CACHE = "public, max-age=600"


@blp.route("/.well-known/jwks.json")
@public
@blp.response(200, JwksOut())
@blp.alt_response(304, description="The client has these keys already.")
def published_keys() -> Response:
    """Get the public keys that verify access tokens."""
    keys = service.published()
    tag = hashlib.sha256(http.dumps(keys)).hexdigest()[:32]
    return http.respond({"keys": keys}, etag=tag, cache=CACHE)
