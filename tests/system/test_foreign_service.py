"""A service in another language verifies our access tokens with npm's `jose`, as it comes."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.debian import node_programs
from tests.system.http import answer, wait_for
from tests.system.image_steps import Image, serving

JOSE = Path(__file__).parent / "jose"
EVE = {"email": "eve@example.com", "password": "keys-of-the-service"}


@pytest.fixture(scope="module")
def url(image: Image, installation: dict[str, str]) -> Iterator[str]:
    """The address of a running service."""
    code, said = image.run(["flask", "db", "upgrade"], installation)
    assert code == 0, said
    with serving(image, installation):
        wait_for(f"{installation['APP_PUBLIC_URL']}/ready", 200)
        yield installation["APP_PUBLIC_URL"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other service's folder, with exactly the `jose` that the lock file names."""
    folder = tmp_path_factory.mktemp("foreign") / "service"
    shutil.copytree(JOSE, folder)
    _, npm = node_programs()
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([npm, "ci", *quiet], cwd=folder, stdin=subprocess.DEVNULL, check=True)
    return folder


class Verifier:
    """A running process of the other service."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def says(self, token: str) -> str:
        """Return whose token it is, or why it is refused."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{token}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().rstrip()


@contextmanager
def verifying(service: Path, url: str) -> Iterator[Verifier]:
    """Run the other service until the block ends."""
    node, _ = node_programs()
    with subprocess.Popen(
        [node, "verify.js", url, url, "bursar"],
        cwd=service,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Verifier(process)


def test_jose_verifies_through_a_rotation_and_a_revocation(
    image: Image, installation: dict[str, str], url: str, service: Path
) -> None:
    def operate(*arguments: str) -> str:
        """Run `flask keys …`, and return the id of the key that it speaks of first."""
        code, said = image.run(["flask", "keys", *arguments], installation)
        found = re.search("Key ([0-9a-f-]{36}) ", said)
        assert code == 0, said
        assert found is not None
        return found[1]

    def sign_in() -> str:
        status, tokens = answer(f"{url}/api/v1/auth/login", EVE)
        assert status == 200
        return str(tokens["access_token"])

    status, eve = answer(f"{url}/api/v1/users", EVE | {"name": "Eve"})
    assert status == 201
    first = sign_in()
    with verifying(service, url) as verifier:
        published = operate("rotate")
        assert verifier.says(first) == eve["id"]
        # By itself it looks again after half a minute at the earliest: it has the key already.
        assert operate("rotate", "--now") == published
        second = sign_in()
        assert verifier.says(second) == eve["id"]
        assert verifier.says(first) == eve["id"]
        assert verifier.says(f"{second[:-6]}AAAAAA") == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
    operate("revoke", published)
    third = sign_in()
    with verifying(service, url) as verifier:
        assert verifier.says(third) == eve["id"]
        assert verifier.says(first) == eve["id"]
        assert verifier.says(second) == "ERR_JWKS_NO_MATCHING_KEY"
