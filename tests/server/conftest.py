"""One running server for the tests that leave it as it was."""

from collections.abc import Iterator

import pytest

from tests import tracing
from tests.server.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), **tracing.variables()) as server:
        yield server
