"""Who may import what, for the libraries that the import linter does not see: each has its one place."""

import ast
import sys
from pathlib import Path

import pytest

import leptonai

ROOT = Path(leptonai.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# library -> the folders or files that may import it
PLACES = {
    "fastapi": ("server/", "serving/plane/"),
    "starlette": ("server/", "serving/plane/"),
    "uvicorn": ("server/", "serving/plane/"),
    "httpx": ("sdk/http.py",),
    "sqlalchemy": ("adapters/catalog/", "sdk/queries.py"),
    "alembic": ("adapters/catalog/",),
    "pysqlite3": ("adapters/catalog/",),
    "sqlite3": (),
    "psycopg": ("adapters/catalog/",),
    "obstore": ("adapters/stores/", "sdk/buckets.py"),
    "cryptography": ("adapters/stores/", "adapters/locks/", "server/keyfile.py", "server/shredding.py"),
    "torch": ("adapters/frameworks/", "training/defaults.py", "cli/demo.py", "sdk/torch_batches.py"),
    "keras": ("adapters/frameworks/", "sdk/layers.py", "sdk/keras_batches.py"),
    "tensorflow": ("adapters/frameworks/",),
    "tf2onnx": ("adapters/frameworks/",),
    "skl2onnx": ("adapters/frameworks/",),
    "skops": ("adapters/frameworks/",),
    "cloudpickle": ("adapters/frameworks/",),
    "onnxruntime": ("adapters/runtimes/", "adapters/frameworks/"),
    "typer": ("cli/",),
    "pickle": (),
    "marshal": (),
    "shelve": (),
    "yaml": (),
    "requests": (),
}


def imports(path: Path) -> set[str]:
    """Return the top-level names of all modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_library_has_its_place(path: Path) -> None:
    here = path.relative_to(ROOT).as_posix()
    wrong = [
        name
        for name in {module.partition(".")[0] for module in imports(path)}
        if name in PLACES and not here.startswith(PLACES[name] or ("-",))
    ]
    assert not wrong, f"{here} imports {wrong}; allowed: { {name: PLACES[name] for name in wrong} }"


@pytest.mark.parametrize("path", sorted((ROOT / "core").rglob("*.py")), ids=lambda p: p.name)
def test_core_stands_on_the_standard_library_and_pydantic(path: Path) -> None:
    tops = {module.partition(".")[0] for module in imports(path)}
    assert tops <= set(sys.stdlib_module_names) | {"pydantic", "leptonai"}
    assert all(m.startswith("leptonai.core") for m in imports(path) if m.startswith("leptonai"))


def environment_uses(path: Path) -> list[int]:
    """Return the lines that read or write the process's environment."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_environment_is_read_in_one_place(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() == "core/settings.py":
        return
    # A fork server gives each job the environment that the job names; that is its work.
    if path.relative_to(ROOT).as_posix() == "adapters/executors/forkserver.py":
        return
    assert not environment_uses(path), "use core/settings.py"


FORBIDDEN_CALLS = {"pickle.load", "pickle.loads", "torch.load", "joblib.load", "yaml.load", "eval", "exec", "os.system"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_runs_bytes_as_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in FORBIDDEN_CALLS, f"line {node.lineno}: {name}"
            assert not name.endswith(".extractall"), f"line {node.lineno}: {name}"
            for keyword in node.keywords:
                truth = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                assert not (keyword.arg in {"allow_pickle", "shell"} and truth), f"line {node.lineno}: {keyword.arg}"
