"""Numbers that several processes count together."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.platform import metrics

ROOT = Path(__file__).resolve().parents[2]
# Two workers one after the other in the same slot, and a third in another, all forked.
WORKERS = """
import os, sys
from pathlib import Path
from app.platform import metrics
metrics.share(Path(sys.argv[1]))
metrics.share(Path("/nowhere"))
for slot, count in ((0, 2), (0, 3), (1, 5)):
    child = os.fork()
    if child == 0:
        metrics.use_slot(slot)
        for _ in range(count):
            metrics.observe("GET", "/x", 200, 0.02)
        os._exit(0)
    os.waitpid(child, 0)
print(metrics.exposition().decode())
print(sorted(path.name for path in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).iterdir()))
metrics.forget()
print(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).exists())
"""


def counted_together(folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", WORKERS, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_workers_of_one_slot_go_on_counting_in_the_same_file(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "metrics"
    folder.mkdir(parents=True)
    (folder / "counter_9.db").write_bytes(b"left by an earlier run")
    shown = counted_together(folder)
    assert 'http_requests_total{method="GET",route="/x",status="200"} 10.0' in shown
    assert 'http_request_duration_seconds_bucket{le="0.025",method="GET",route="/x"} 10.0' in shown
    assert 'http_request_duration_seconds_bucket{le="0.01",method="GET",route="/x"} 0.0' in shown
    files, exists = shown.splitlines()[-2:]
    kinds = ("counter", "gauge_livesum", "histogram")
    assert files == str([f"{kind}_{slot}.db" for kind in kinds for slot in (0, 1)])
    assert exists == "False"


@pytest.mark.usefixtures("traced")
def test_a_folder_that_can_not_be_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    assert '"} 10.0' in counted_together(tmp_path / "data" / "metrics")


def test_the_lowest_free_slot_is_taken() -> None:
    assert metrics.free_slot(set()) == 0
    assert metrics.free_slot({0, 2}) == 1
    assert metrics.free_slot({0, 1}) == 2


SCRAPES = """
import gevent.monkey
gevent.monkey.patch_all()
import os, sys
from pathlib import Path
from app.platform import metrics, turns
metrics.share(Path(sys.argv[1]))
children = []
for round in range(75):
    child = os.fork()
    if child == 0:
        metrics.use_slot(round % 3)
        metrics.sample()
        os._exit(0)
    children.append(child)
    metrics.exposition()
    if len(children) == 3:
        for slot, ended in enumerate(children):
            os.waitpid(ended, 0)
            metrics.vacate(slot)
        children = []
        for file in Path(sys.argv[1]).glob("*"):
            file.unlink()
metrics.forget()
"""


def test_no_scrape_fails_while_workers_begin_and_end(tmp_path: Path) -> None:
    """The library's files are empty for a moment: reading one then is an error."""
    subprocess.run([sys.executable, "-c", SCRAPES, str(tmp_path / "metrics")], cwd=ROOT, check=True)
