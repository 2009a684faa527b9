"""A small application behind the real edge, with short deadlines, to test the server itself."""

import os
from collections.abc import Iterator

import gevent
from flask import Flask, Response, request
from gevent import monkey
from sqlalchemy import text
from werkzeug.exceptions import HTTPException

from app.platform import connection, db, errors, health, logging
from app.platform.edge import Edge
from app.platform.errors import AppError
from app.platform.gauges import Gauge
from app.platform.settings import load_settings

DEADLINE_SECONDS = 1.5
BODY_SECONDS = 1.0
SEND_SECONDS = 1.0
HEAD_SECONDS = 1.0

# How long the server waits for slow clients: the real limits are too long for a test.
connection.SEND_SECONDS = SEND_SECONDS
connection.HEAD_SECONDS = HEAD_SECONDS
settings = load_settings()
logging.configure(settings)


def numbers() -> list[Gauge]:
    """Read a number in the database, for a scrape."""
    with db.reading() as connection:
        return [Gauge("database_ones", "Always 1.", connection.scalar(text("SELECT 1")) or 0)]


app = Flask(__name__)
app.config["PROPAGATE_EXCEPTIONS"] = True
health.install(app, settings, checks={}, gauges=[numbers])
app.wsgi_app = Edge(
    app.wsgi_app,
    settings=settings,
    deadline_seconds=DEADLINE_SECONDS,
    body_seconds=BODY_SECONDS,
)


@app.before_request
def _note_the_route() -> None:
    if request.url_rule is not None:
        request.environ["bursar.route"] = request.url_rule.rule
    refusal = request.environ.get("bursar.body_error")
    if refusal is not None:
        raise refusal


@app.errorhandler(AppError)
def _app_error(error: AppError) -> Response:
    status, body, content_type = errors.render(
        error, request_id=request.environ["bursar.request_id"], problem=False
    )
    return Response(body, status, dict(error.headers), content_type=content_type)


@app.errorhandler(HTTPException)
def _http_exception(error: HTTPException) -> Response:
    return _app_error(errors.BY_STATUS[error.code or 500]())


@app.post("/echo")
def echo() -> Response:
    return Response(str(len(request.get_data())))


@app.get("/who")
def who() -> dict[str, object]:
    return {"address": request.environ["bursar.address"], "pid": os.getpid()}


@app.get("/sleep/<float:seconds>")
def sleeper(seconds: float) -> str:
    gevent.sleep(seconds)
    return "slept"


@app.get("/block/<float:seconds>")
def block(seconds: float) -> str:
    monkey.get_original("time", "sleep")(seconds)
    return "nobody else moved"


@app.get("/database/<float:seconds>")
def database(seconds: float) -> str:
    with db.reading() as connection:
        connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    return "asked"


@app.get("/swallow")
def swallow() -> str:
    try:
        gevent.sleep(60)
    except Exception:
        return "an ordinary handler saw the deadline"
    return "slept"


@app.get("/boom")
def boom() -> str:
    password = "canary-local"
    raise ValueError("canary-message " + password)


@app.get("/unasked")
def unasked() -> str:
    raise SystemExit("a view must not end the worker")


@app.get("/greenlet")
def greenlet() -> str:
    gevent.spawn(lambda: 1 // 0)
    return "spawned"


@app.get("/stream/<int:pieces>")
def stream(pieces: int) -> Response:
    def produce() -> Iterator[bytes]:
        for _ in range(pieces):
            yield b"x" * 65536
            gevent.sleep(0.01)

    return Response(produce())


@app.get("/broken-stream/<int:pieces>")
def broken_stream(pieces: int) -> Response:
    def produce() -> Iterator[bytes]:
        for _ in range(pieces):
            yield b"x" * 1024
        raise KeyError("canary-message")

    return Response(produce())
