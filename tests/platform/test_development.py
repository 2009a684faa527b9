"""Secrets that a development machine makes for itself."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from app.platform.development import development_secret


def test_a_secret_is_made_once_and_readable_by_its_user_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    assert development_secret(data_dir, "key", lambda: "first") == "first"
    assert development_secret(data_dir, "key", lambda: "second") == "first"
    assert development_secret(data_dir, "other", lambda: "third") == "third"
    assert stat.S_IMODE((data_dir / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "secrets/key").stat().st_mode) == 0o600
    assert sorted(path.name for path in (data_dir / "secrets").iterdir()) == ["key", "other"]


def test_all_who_ask_at_once_get_the_same_secret(tmp_path: Path) -> None:
    everybody = Barrier(8)

    def ask(number: int) -> str:
        def make() -> str:
            # Whoever is here has seen no file; all write at the same time.
            everybody.wait(timeout=10)
            return f"secret {number}"

        return development_secret(tmp_path, "key", make)

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(ask, range(8)))
    assert len(found) == 1
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["key"]


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").write_text("\n")
    with pytest.raises(OSError, match="The file is empty; delete it"):
        development_secret(tmp_path, "key", lambda: "never made")
