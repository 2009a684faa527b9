"""The three small pages that the links in mails lead to, and their script and style sheet.

They are plain files beside this module. A page takes its token out of the link's fragment, which no
browser sends to anybody, and hands it over to the API only when its button is pressed: programs
that look through mails follow every link, and would use it up. Which of its occasions a mail was
about, the token doesn't show, so the sentences of a page fit all of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from flask import Flask, Response, send_from_directory

from app.platform import guards

NAMES: Final = ("verify", "reset", "undo")
FOLDER: Final = Path(__file__).parent
# Nothing but our own two files runs or is loaded, and the page may talk to nobody but the service
# that it came from; a form that is sent without the script, with a password in it, goes nowhere.
# The icon is empty and stands in the page, or browsers would ask for one.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def install(app: Flask) -> None:
    """Serve the pages and their files."""
    for name in NAMES:
        app.add_url_rule(f"/account/{name}", f"account_{name}", _page(name))

    @app.get("/account/page.js")
    @guards.public
    def account_script() -> Response:
        return send_from_directory(FOLDER, "page.js", mimetype="text/javascript")

    @app.get("/account/page.css")
    @guards.public
    def account_style() -> Response:
        return send_from_directory(FOLDER, "page.css", mimetype="text/css")


def _page(name: str) -> Callable[[], Response]:
    """Return the view of a page, which is read once."""
    text = (FOLDER / f"{name}.html").read_text(encoding="utf-8")

    @guards.public
    def page() -> Response:
        response = Response(text, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = POLICY
        # Also because a browser would otherwise keep the page alive behind the back button, with
        # the token in its memory.
        response.headers["Cache-Control"] = "no-store"
        return response

    return page
