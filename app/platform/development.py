"""Makes the secrets of a development machine on first use, and keeps them in the data folder."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile


def development_secret(data_dir: Path, name: str, make: Callable[[], str]) -> str:
    """Give the secret `<data_dir>/secrets/<name>`, made by `make` when there is none yet.

    Several processes may ask at once: all get the same secret, and nobody sees half of one. Only
    this user can read it. For development and test; elsewhere secrets come from the operator.

    Raises OSError.
    """
    secrets = data_dir / "secrets"
    secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = secrets / name
    if not path.exists():
        _create(path, make())
    secret = path.read_text("utf-8").strip()
    if not secret:
        raise OSError(errno.EINVAL, "The file is empty; delete it", str(path))
    return secret


def _create(path: Path, secret: str) -> None:
    """Write a new file in one step, for this user only; one that is already there stays."""
    # NamedTemporaryFile opens with mode 0600. The link gives the finished file its name, and unlike
    # a rename it fails when another process was first; then that one's secret counts.
    with NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}."
    ) as file:
        file.write(secret + "\n")
        file.flush()
        # Passwords of the database are made here: an empty file after a power cut would lock its
        # data away.
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return
