"""Every test runs under a watch: a thread, process, listening port, open file or environment variable that it leaves
behind fails it."""

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pysqlite3.dbapi2  # noqa: F401  (TensorFlow brings an older SQLite: whoever is loaded first is taken by both)
import pytest
from hypothesis import settings as hypothesis_settings
from tests.support.warm import here, warm  # noqa: F401  (fixtures of many modules)

from leptonai.core import settings

os.environ["LEPTONAI_RACE_SECONDS"] = "0"  # tests of races set it: elsewhere they would only take time from the others
os.environ["LEPTONAI_WARM"] = "none"  # as little is loaded ahead for Runs that may never come
# The machine is shared: how long one example takes says nothing.
hypothesis_settings.register_profile("shared", deadline=None)
hypothesis_settings.load_profile("shared")
settings.silence_libraries()  # before any test imports them; it stays for the whole run

# Variables that libraries set for themselves when they are first imported.
_LIBRARIES = ("PYTEST_", "COV", "TORCHINDUCTOR_", "KMP_", "CRC32C_", "TF2_BEHAVIOR", "TPU_ML_PLATFORM", "KERAS_HOME")
# Threads that libraries start once for a process and keep; they belong to nobody's test.
_KEPT = ("asyncio_", "ThreadPoolExecutor-tf", "pymain", "execnet", "Dummy", "tqdm", "AnyIO worker", "IOThreadFS")

# Folders and modules whose tests are about processes. The processes of other tests are not measured: that takes half as long
# again, and what runs in them the tests of the parts measure.
_MEASURED = ("server", "serving", "agent/test_services.py", "agent/test_rollouts.py", "agent/test_runs.py")


@pytest.fixture(scope="module", autouse=True)
def _measured(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        folder = request.path.parent.name
        if not {folder, f"{folder}/{request.path.name}"} & set(_MEASURED):
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to begin with Keras imported by a module of tests: on whichever back end it takes first, for all tests to come."""
    if "keras" in sys.modules and settings.variable("KERAS_BACKEND") is None:
        raise pytest.UsageError(
            "a module of tests imports Keras while it is collected: import it in the test, by keras_here()"
        )


class World(NamedTuple):
    """What a test must leave as it found it."""

    threads: frozenset[str]
    processes: frozenset[str]
    ports: frozenset[str]
    files: frozenset[str]
    environment: frozenset[tuple[str, str]]


def _look() -> World:
    me = psutil.Process()
    children = []
    for child in me.children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline()):
                children.append(f"{child.pid} {' '.join(child.cmdline())[:150]}")
        except psutil.NoSuchProcess:
            continue
    return World(
        threads=frozenset(f"{t.name} {t.ident}" for t in threading.enumerate() if not t.name.startswith(_KEPT)),
        processes=frozenset(children),
        ports=frozenset(
            f"{c.laddr.ip}:{c.laddr.port}" for c in me.net_connections("inet") if c.status == psutil.CONN_LISTEN
        ),
        files=frozenset(
            f.path
            for f in me.open_files()
            if not f.path.startswith(("/dev/", "/proc/")) and "coverage" not in f.path and "site-packages" not in f.path
        ),
        environment=frozenset((k, v) for k, v in os.environ.items() if not k.startswith(_LIBRARIES)),
    )


def _left(before: World, after: World) -> dict[str, list[object]]:
    left: dict[str, list[object]] = {
        name: sorted(getattr(after, name) - getattr(before, name)) for name in World._fields
    }
    left["environment"] += sorted(before.environment - after.environment)
    return {name: things for name, things in left.items() if things}


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves something behind; what winds down by itself gets a few seconds."""
    before = _look()
    yield
    left = _left(before, _look())
    until = time.monotonic() + 5
    while left and time.monotonic() < until:
        gc.collect()
        time.sleep(0.05)
        left = _left(before, _look())
    if left:
        pytest.fail(f"{request.node.name} left behind: {left}", pytrace=False)
