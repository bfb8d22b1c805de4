"""Modules that are loaded by name are invisible to the import linter, so each kind of process is started and asked."""

import json
import os
import subprocess
import sys

import pytest
from tests.support.back_end import needs

from leptonai.core.stages import FLAVOURS

HEAVY = ("torch", "keras", "tensorflow", "jax", "sklearn", "numpy", "pyarrow", "polars", "onnxruntime", "ray")
SERVER = ("fastapi", "starlette", "uvicorn", "leptonai.server", "leptonai.runs")
DATABASE = ("sqlalchemy", "alembic", "sqlite3", "pysqlite3", "psycopg")


def modules_after(code: str) -> set[str]:
    """Run code in a fresh Python and return the modules it loaded."""
    return set(told_after(code, "sys.modules"))


def told_after(code: str, names: str) -> list[str]:
    """Run code in a fresh Python and return what `names` is there."""
    # Measuring coverage would itself load what it measures.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nimport json; print(json.dumps(sorted({names})))"],
        env=plain,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = modules_after("import leptonai")
    assert not loaded & {*HEAVY, *SERVER, *DATABASE, "httpx", "pydantic", "rich", "typer"}


def test_the_client_loads_no_server_and_no_framework() -> None:
    loaded = modules_after(
        "import leptonai\nleptonai.Model, leptonai.create_dataset, leptonai.Service, leptonai.Run, leptonai.Client\n"
        "import leptonai.cli.main"
    )
    assert not loaded & {*HEAVY, *SERVER, *DATABASE}
    assert not {m for m in loaded if m.startswith("leptonai.adapters")}


def test_the_agent_loads_no_server_and_no_database() -> None:
    loaded = modules_after("import leptonai.agent.main, leptonai.agent.once, leptonai.agent.handle")
    assert not loaded & {*SERVER, *DATABASE, "torch", "keras", "tensorflow", "jax"}


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["torch", "tensorflow"])
def test_a_process_of_another_back_end_loads_no_jax(flavour: str) -> None:
    # Keras imports it wherever it is installed, which takes 120 MB of each.
    needs("jax")
    modules, environment = FLAVOURS[flavour]
    said = f"import os; os.environ.update({dict(environment)!r})\nimport " + ", ".join(modules)
    assert "jax" not in modules_after(said)
    assert "jax" in modules_after(f"{said}\nimport jax")  # it can be had


def test_the_server_loads_no_framework() -> None:
    loaded = modules_after("import leptonai.server.app, leptonai.server.main")
    assert not loaded & {"torch", "keras", "tensorflow", "jax", "sklearn", "pyarrow", "polars", "onnxruntime"}


def test_a_serving_process_loads_no_records_of_the_catalog() -> None:
    # There is one for each core, and pydantic takes 12 MB of each.
    loaded = modules_after("import leptonai.serving.plane.main, leptonai.serving.plane.grpc.server")
    assert not loaded & {"pydantic", "pydantic_core", "leptonai.core.nouns", *SERVER, *DATABASE, "torch", "pyarrow"}


def test_a_process_of_a_study_finds_what_it_needs_loaded() -> None:
    # Each is forked anew, and would load it anew: 75 ms of a study before its first trial, and 40 ms of each process.
    needs = (
        "from leptonai.sdk.http import Http\nHttp('http://127.0.0.1:1', 'k').close()\n"
        "import sklearn.svm\nfrom leptonai.core import plugins, stages\nfrom leptonai.tuning.study import load_engine\n"
        "framework = plugins.framework('sklearn')\nstages.load(stages.TRIALS), load_engine().importance\n"
        "framework.recipe(framework.pack(sklearn.svm.SVC(), {}).code).learner({'C': 1.0})"
    )
    code = f"from leptonai.adapters.executors import forkserver\nforkserver._load('sklearn')\nbefore = set(sys.modules)\n{needs}"
    assert not told_after(code, "set(sys.modules) - before")
