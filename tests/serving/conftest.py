from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.plane import Plane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    made = Plane(tmp_path)
    yield made
    made.close()
    assert made.log.read_text() == ""  # nothing went wrong that nobody was told of
