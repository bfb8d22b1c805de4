"""A server of a module's own, for tests whose Runs are all about data: it stays for all of them, and is warm for them.

@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with data_home(tmp_path_factory.mktemp("home") / "home") as folder:
        yield folder
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from leptonai.sdk import client
from leptonai.sdk.datasets import create_dataset


@contextmanager
def data_home(folder: Path) -> Iterator[Path]:
    """Connect to a server in the home folder `folder`, which keeps what Runs on data need in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONAI_WARM", "data")
        client.connect(home=folder)
        create_dataset("first", {"a": np.arange(3), "y": np.arange(3)})  # then what the server keeps warm is up
    yield folder
    client.disconnect()
