"""Compresses answers of 1 KiB and more, on request: zstd, br or gzip."""

from flask import Flask, Request, Response, request
from flask_compress import Compress

ALGORITHMS = ("zstd", "br", "gzip")
LEAST_BYTES = 1024


class Kept(dict[str, bytes]):
    """Compressed answers, kept for as long as the process lives, with the methods of a cache."""

    def set(self, key: str, value: bytes) -> None:
        """Keep an answer."""
        self[key] = value


def install(app: Flask) -> None:
    """Compress what clients accept compressed, but never an answer with tokens.

    The length of a compressed answer says something about its content (BREACH). A view that says
    `bursar.unchanging` in the environ has its answer compressed once for its path.
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
    app.config |= {"COMPRESS_CACHE_BACKEND": Kept, "COMPRESS_CACHE_KEY": _path}
    compress_once = Compress(app)

    @app.after_request
    def shrink(response: Response) -> Response:
        # flask-compress takes `gzip;q=0` for a wish.
        wanted = any(request.accept_encodings.quality(name) > 0 for name in ALGORITHMS)
        if request.environ.get("bursar.secret") or not wanted:
            response.vary.add("Accept-Encoding")
            return response
        unchanging = request.environ.get("bursar.unchanging")
        compressed: Response = (compress_once if unchanging else compress).after_request(response)
        return compressed


def _path(asked: Request) -> str:
    return asked.path
