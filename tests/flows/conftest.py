"""A user's machine: an empty home folder, an embedded server that starts by itself and is gone afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from leptonai.sdk import client


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Connect to a server of this test's own."""
    folder = tmp_path / "home"
    client.connect(home=folder)
    yield folder
    client.disconnect()
