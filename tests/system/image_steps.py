"""Does by hand, in an empty folder, what the Dockerfile tells a builder to do.

It knows the instructions that our Dockerfile uses and fails at any other one. The image's own
paths lie below the folder. Both stages share it, so what one copies from the other is there.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from tempfile import TemporaryFile
from typing import IO

PROJECT = Path(__file__).resolve().parents[2]
# Debian's Python stands for the base image's: the image's user can't run one below a home folder.
PYTHON = "/usr/bin/python3"
# A container has a folder in memory there, which stays writable when the file system is not.
MEMORY = "/dev/shm"
MOST_SAID = 1_000_000


@dataclass
class Image:
    """What the Dockerfile leaves: files below `root`, and how they are started."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/bin:/bin"})
    folder: str = "/"
    user: int = 0
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def inside(self, path: str = "") -> Path:
        """Return where a path of the image lies on this machine."""
        return self.root / (Path(self.folder) / path).relative_to("/")

    def start(
        self, command: list[str], settings: dict[str, str], *, output: IO[str]
    ) -> subprocess.Popen[bytes]:
        """Start a command as the image's user, with the image's environment and nothing else.

        What it says goes to a file: a pipe that nobody reads fills up, and then it stands still.
        """
        environment = self.environment | settings
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None, f"the image has no {command[0]}"
        # Without root we can't become another user; then only the files' modes keep them unchanged.
        identity = {"user": self.user, "group": 0, "extra_groups": []} if not os.getuid() else {}
        return subprocess.Popen(
            [program, *command[1:]],
            cwd=self.inside(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **identity,
        )

    def run(self, command: list[str], settings: dict[str, str]) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it said."""
        with TemporaryFile("w+") as output:
            code = self.start(command, settings, output=output).wait(timeout=60)
            return code, _text(output)

    def files(self) -> dict[str, tuple[int, int]]:
        """Return size and time of change of everything that must not change."""
        return {
            str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in self.root.rglob("*")
            if MEMORY not in f"/{path.relative_to(self.root)}"
        }


@contextmanager
def serving(
    image: Image, settings: dict[str, str], *, command: list[str] | None = None
) -> Iterator[Callable[[], str]]:
    """Run the image's command until the block ends, then stop it as an orchestrator does.

    Another command, such as the worker's, may be given. Entered with what tells what it has said.
    """
    # The service never gets the URL of the tables' owner.
    own = {name: value for name, value in settings.items() if "MIGRATION" not in name}
    with TemporaryFile("w+") as output:
        process = image.start(command or image.command, own, output=output)
        try:
            # Not by seeking: the process writes at the same place of the file.
            yield lambda: os.pread(output.fileno(), MOST_SAID, 0).decode()
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
        assert code == 0, _text(output)


def _text(output: IO[str]) -> str:
    output.seek(0)
    return output.read()


def build(root: Path, **arguments: str) -> Image:
    """Do the steps of the Dockerfile below an empty folder, and make all of it read-only.

    The arguments are the builder's: `--build-arg COMMIT=…`.
    """
    image = Image(root)
    (root / MEMORY[1:]).mkdir(parents=True)
    for verb, rest in _instructions():
        match verb:
            case "FROM":
                image = Image(root)
            case "WORKDIR":
                image.folder = rest
                image.inside().mkdir(parents=True, exist_ok=True)
            case "COPY":
                _copy(image, shlex.split(rest))
            case "RUN":
                subprocess.run(
                    ["/bin/sh", "-euc", _placed(image, rest)],
                    cwd=image.inside(),
                    stdin=subprocess.DEVNULL,
                    check=True,
                )
            case "ENV":
                for assignment in shlex.split(rest):
                    name, _, value = assignment.partition("=")
                    known = image.environment | arguments
                    image.environment[name] = Template(_placed(image, value)).substitute(known)
            case "USER":
                image.user = int(rest)
            case "CMD":
                image.command = json.loads(rest)
            case "HEALTHCHECK":
                image.health = json.loads(rest.partition("CMD ")[2])
            case _:
                assert verb in ("ARG", "EXPOSE")
    subprocess.run(["chmod", "-R", "a-w", str(root)], check=True)
    (root / MEMORY[1:]).chmod(0o1777)
    return image


def _instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions as (verb, rest): without comments, broken lines joined."""
    text = (PROJECT / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line:
            verb, _, rest = line.partition(" ")
            yield verb, rest


def _placed(image: Image, text: str) -> str:
    """Replace the image's folders and its Python with ours."""
    for folder in ("/opt/venv", MEMORY):
        text = text.replace(folder, f"{image.root}{folder}")
    return re.sub(r"^python ", f"{PYTHON} ", text)


def _copy(image: Image, words: list[str]) -> None:
    """Copy what .dockerignore lets through, and make sure that it lets it through."""
    *sources, target_name = words
    target = image.inside(target_name)
    if sources[0].startswith("--from="):
        assert target.is_dir(), f"no stage has made {target_name}"
        return
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "only what is named may reach the builder"
    for source in sources:
        assert f"!{source}" in ignored, f".dockerignore keeps {source} from the builder"
        if (PROJECT / source).is_dir():
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / source, target, dirs_exist_ok=True, ignore=without)
        else:
            shutil.copy2(PROJECT / source, target)
