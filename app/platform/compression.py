"""Compresses answers of 1 KiB and more, on request: zstd, br or gzip."""

from flask import Flask, Response, request
from flask_compress import Compress

ALGORITHMS = ("zstd", "br", "gzip")
LEAST_BYTES = 1024


def install(app: Flask) -> None:
    """Compress what clients accept compressed, but never an answer with tokens.

    The length of a compressed answer says something about its content (BREACH).
    """
    app.config |= {
        "COMPRESS_REGISTER": False,
        "COMPRESS_ALGORITHM": list(ALGORITHMS),
        "COMPRESS_MIN_SIZE": LEAST_BYTES,
        # The fast levels: an answer's latency counts, and there is one core for all of it.
        "COMPRESS_LEVEL": 6,
        "COMPRESS_BR_LEVEL": 4,
        "COMPRESS_ZSTD_LEVEL": 3,
    }
    compress = Compress(app)

    @app.after_request
    def shrink(response: Response) -> Response:
        # flask-compress takes `gzip;q=0` for a wish.
        wanted = any(request.accept_encodings.quality(name) > 0 for name in ALGORITHMS)
        if request.environ.get("bursar.secret") or not wanted:
            response.vary.add("Accept-Encoding")
            return response
        compressed: Response = compress.after_request(response)
        return compressed
