"""The page at `/docs` to read and try the API.

It is made of Swagger UI's own files: no foreign host, no inline script, good without a network.
"""

import hashlib
import importlib.util
import mimetypes
from functools import cache
from math import inf
from pathlib import Path

from flask import Flask, Response, request

from app.platform import guards, http, overload

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Bursar API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null,
  persistAuthorization: false, displayRequestDuration: true,
});
"""
# Sending one takes the worker milliseconds.
FILES_A_TICK = 3
FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
# Swagger UI sets style attributes on what it draws, and its icons are data images. Scripts are
# ours alone, and the page may talk to nobody but the service that it came from.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def install(app: Flask) -> None:
    """Serve the page and the files it needs."""
    package = importlib.util.find_spec("flask_swagger_ui")
    if package is None or package.origin is None:
        raise RuntimeError("flask-swagger-ui is not installed")
    folder = Path(package.origin).parent / "dist"

    # In memory from the first request on: looking files up for each takes longer than all the rest.
    @cache
    def read(name: str) -> tuple[bytes, str]:
        content = START.encode() if name == "start.js" else (folder / name).read_bytes()
        return content, hashlib.sha256(content).hexdigest()[:32]

    def file(name: str) -> Response:
        request.environ["bursar.unchanging"] = True
        content, tag = read(name)
        response = Response(content, mimetype=mimetypes.guess_type(name)[0])
        response.headers["Cache-Control"] = "public, max-age=3600"
        return http.conditional(response, tag)

    # Two hundred who ask for them at once would keep everybody else waiting meanwhile.
    pace = overload.Room(overload.Pace(FILES_A_TICK), most=inf)
    overload.also_wait_for(pace, "GET /docs/")

    @app.get("/docs")
    @guards.public
    def docs() -> Response:
        response = Response(PAGE, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @app.get("/docs/start.js")
    @guards.public
    @guards.counted_as_file
    def docs_start() -> Response:
        return file("start.js")

    @app.get(f"/docs/<any({','.join(repr(name) for name in FILES)}):name>")
    @guards.public
    @guards.counted_as_file
    def docs_file(name: str) -> Response:
        return file(name)
