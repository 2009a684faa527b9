"""Compares the answers that were seen in all tests with those that the OpenAPI document lists.

Each test process notes (method, path, status) of what its clients got. At the end of a whole run
they must be exactly what the document says: an answer that isn't listed is a broken promise, and a
listed one that nobody has seen is a guess. Mistakes of ours (500) are listed nowhere.
"""

from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException

from app.platform.openapi import path_of

Seen = tuple[str, str, str]
_seen: set[Seen] = set()
_documented: set[Seen] = set()


def note(app: Flask, method: str, path: str, status: int) -> None:
    """Note what a client was answered, refusals from around Flask included."""
    if not _documented:
        _documented.update(documented(app))
    try:
        rule, _ = app.url_map.bind("localhost").match(path, method, return_rule=True)
    except HTTPException:
        return
    _seen.add((method, path_of(rule.rule), str(status)))


def documented(app: Flask) -> set[Seen]:
    """Return every answer of every operation in the application's document."""
    paths: dict[str, Any] = app.extensions["bursar_openapi"]["paths"]
    return {
        (method.upper(), path, status)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if method != "parameters"
        for status in operation["responses"]
        if operation["tags"] != ["around"]
    }


def notes() -> dict[str, list[Seen]]:
    """Return what this process saw and what is documented, ready to be sent to the controller."""
    return {"seen": sorted(_seen), "documented": sorted(_documented)}


def differences(parts: list[dict[str, Any]], *, whole_run: bool) -> list[str]:
    """Return a sentence for each answer that is only seen or, in a whole run, only documented."""
    seen = {tuple(item) for part in parts for item in part["seen"]}
    listed = {tuple(item) for part in parts for item in part["documented"]}
    operations = {item[:2] for item in listed}
    sentences = [
        f"{' '.join(item)} was answered in a test, and the OpenAPI document doesn't list it"
        for item in sorted(seen - listed)
        if item[:2] in operations and item[2] != "500"
    ]
    if whole_run:
        sentences += [
            f"{' '.join(item)} is in the OpenAPI document, and no test has seen it"
            for item in sorted(listed - seen)
        ]
    return sentences
