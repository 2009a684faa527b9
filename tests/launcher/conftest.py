"""A data folder for one test, which the user who runs PostgreSQL can enter."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # pytest's own folders are private: as root, the database would go to /var/lib.
    folder = Path(tempfile.mkdtemp(prefix="bursar-"))
    try:
        folder.chmod(0o711)
        yield folder / "data"
    finally:
        shutil.rmtree(folder)
