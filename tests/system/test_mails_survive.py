"""Everything is killed while many users sign up and reset their passwords: no mail is lost.

Workers, web workers, the whole web server and PostgreSQL get kill -9 in turn, and the mail server
loses its answers for a while. What was promised to a user arrives at least once; a copy has the
same Message-ID.
"""

import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from app.platform import migrations
from app.platform.embedded_postgres import EmbeddedPostgres, urls
from app.platform.settings import Settings, load_settings
from tests.mail.smtp_server import SmtpServer, smtp_server
from tests.server.serving import Server, serving, wait_until
from tests.worker.working import Worker, working

USERS, CLIENTS = 500, 16
PASSWORD = "hopper-1952-compiler"
# A worker that died is given up after 30 s, and its jobs are looked for every 20.
PATIENCE = 150.0


class Place:
    """The whole installation, each part of which can be killed and comes back."""

    def __init__(self, folder: Path, mail: SmtpServer, stack: ExitStack) -> None:
        self.folder, self.mail, self.stack = folder, mail, stack
        self.data_dir = folder / "data"
        application, owner = urls(self.data_dir)
        self.variables = {
            "APP_ENV": "test",
            "APP_DATA_DIR": str(self.data_dir),
            "APP_DATABASE_URL": application,
            "APP_DATABASE_MIGRATION_URL": owner,
            "APP_MAIL_URL": mail.url,
            "APP_MAIL_FROM": "bursar@example.org",
            "APP_LOG_LEVEL": "warning",
        }
        self.settings: Settings = load_settings(self.variables)
        self.database = self.start_database()
        migrations.upgrade(self.settings)
        self.workers: list[tuple[Worker, Any]] = []
        self.start_worker()
        self.web = self.start_web()

    def start_database(self) -> EmbeddedPostgres:
        return EmbeddedPostgres.start(self.data_dir, say=lambda sentence: None)

    def start_web(self, port: int | None = None) -> Server:
        variables = self.variables | {"APP_SERVER_WORKERS": "2"}
        if port is not None:
            variables["APP_SERVER_PORT"] = str(port)
        context = serving(self.folder, app=None, **variables)
        return self.stack.enter_context(context)

    def start_worker(self) -> None:
        """Start a worker beside those that are left."""
        wanted = {
            name: self.variables[name]
            for name in ("APP_MAIL_URL", "APP_MAIL_FROM", "APP_LOG_LEVEL")
        }
        context = working(self.settings, self.folder, wait=False, **wanted)
        self.workers.append((self.stack.enter_context(context), context))

    def kill_worker(self) -> None:
        worker, _ = self.workers[-1]
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        self.start_worker()

    def kill_web_worker(self) -> None:
        workers = self.web.workers()
        if workers:
            os.kill(workers[0], signal.SIGKILL)

    def kill_web(self) -> None:
        os.killpg(self.web.process.pid, signal.SIGKILL)
        self.web.process.wait()
        self.web = self.start_web(self.web.port)

    def kill_database(self) -> None:
        pid = self.data_dir / "postgres" / "cluster" / "postmaster.pid"
        os.kill(int(pid.read_text().splitlines()[0]), signal.SIGKILL)
        dead = self.database
        wait_until(lambda: not dead.is_running())
        self.database = self.start_database()
        # Lets go of its hold on the data folder, which would keep the new one from being stopped.
        dead.stop(immediate=True)

    def lose_answers(self) -> None:
        self.mail.mode("lost_answer")
        time.sleep(1)
        self.mail.mode("ok")

    def rows(self, statement: str) -> list[Any]:
        engine = create_engine(self.settings.database_migration_url)
        with engine.connect() as connection:
            found = list(connection.execute(text(statement)))
        engine.dispose()
        return found


@pytest.fixture
def place() -> Iterator[Place]:
    # The user who runs PostgreSQL must be able to pass.
    folder = Path(tempfile.mkdtemp(prefix="bursar-"))
    folder.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        mail = stack.enter_context(smtp_server(folder / "smtp"))
        place = Place(folder, mail, stack)
        stack.callback(lambda: place.database.stop(immediate=True))
        yield place


def ask(url: str, body: dict[str, str], *, until: tuple[int, ...]) -> None:
    """Send a request again and again, as an impatient client does, until it is answered so."""
    end = time.monotonic() + PATIENCE
    status = 0
    while status not in until:
        assert time.monotonic() < end, f"{url} last answered {status}"
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status = answer.status
        except urllib.error.HTTPError as refusal:
            status = refusal.code
        except OSError:
            status = 0
        if status not in until:
            time.sleep(0.2)


@contextmanager
def faults(place: Place) -> Iterator[list[str]]:
    """Kill one part after the other until the block ends; give what was done so far."""
    done: list[str] = []
    over = threading.Event()

    def go_on() -> None:
        kinds = (
            place.kill_worker,
            place.kill_web_worker,
            place.lose_answers,
            place.kill_database,
            place.kill_web,
        )
        while True:
            for kind in kinds:
                if over.wait(1.5):
                    return
                kind()
                done.append(kind.__name__)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def test_no_mail_is_lost_while_everything_is_killed(place: Place) -> None:
    api = f"http://127.0.0.1:{place.web.port}/api/v1"
    addresses = [f"user-{number}@example.org" for number in range(USERS)]

    def live(email: str) -> None:
        # Somebody whose first answer was lost has the address already.
        sign_up = {"email": email, "name": "Grace", "password": PASSWORD}
        ask(f"{api}/users", sign_up, until=(201, 409))
        ask(f"{api}/auth/password/forgot", {"email": email}, until=(202,))

    with faults(place) as done, ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(live, addresses))
        while len(set(done)) < 5:
            time.sleep(0.2)
    waiting = "SELECT count(*) FROM mails WHERE state = 'waiting'"
    wait_until(lambda: place.rows(waiting) == [(0,)], seconds=PATIENCE)

    arrived: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for received in place.mail.mails():
        page = re.search(r"/account/(\w+)#", received.mail.get_body(("plain",)).get_content())
        key = (received.recipients[0], page[1] if page else "")
        arrived[key][str(received.mail["Message-ID"])] += 1
    for email in addresses:
        assert arrived[email, "verify"], f"{email} was never welcomed, after {done}"
        assert arrived[email, "reset"], f"{email} got no link, after {done}"
        # Signing up again made no second user, and so there is one mail, however often it came.
        assert len(arrived[email, "verify"]) == 1
    rows = place.rows("SELECT id, state FROM mails")
    assert {row.state for row in rows} == {"sent"}
    known = {f"<{row.id}@127.0.0.1>" for row in rows}
    assert {each for copies in arrived.values() for each in copies} == known
    copies = sum(count - 1 for each in arrived.values() for count in each.values())
    print(f"{len(rows)} mails, {copies} of them twice, after {Counter(done)}")
