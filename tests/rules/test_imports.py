"""Who may import what, for the libraries that the import linter does not see: each has its one place."""

import ast
import sys
from functools import cache
from pathlib import Path

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
    "cryptography": (
        "adapters/stores/",
        "adapters/locks/",
        "adapters/executors/ray_tunnel.py",
        "server/keyfile.py",
        "server/shredding.py",
    ),
    "torch": ("adapters/frameworks/", "training/defaults.py", "cli/demo.py", "sdk/torch_batches.py"),
    "keras": ("adapters/frameworks/", "sdk/layers.py", "sdk/keras_batches.py"),
    "tensorflow": ("adapters/frameworks/",),
    "tf2onnx": ("adapters/frameworks/",),
    "skl2onnx": ("adapters/frameworks/",),
    "lightgbm": ("adapters/frameworks/",),
    "torchmetrics": ("adapters/frameworks/",),
    "skops": ("adapters/frameworks/",),
    "cloudpickle": ("adapters/frameworks/",),
    "onnxruntime": ("adapters/runtimes/", "adapters/frameworks/"),
    "typer": ("cli/",),
    "ray": ("adapters/executors/",),
    "pickle": (),
    "marshal": (),
    "shelve": (),
    "yaml": (),
    "requests": (),
}


@cache
def parsed(path: Path) -> ast.Module:
    """Return the tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path) -> set[str]:
    """Return the names of all modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return found


def test_each_library_has_its_place() -> None:
    wrong = [
        f"{here} imports {name}; allowed: {PLACES[name]}"
        for path in FILES
        for here in [path.relative_to(ROOT).as_posix()]
        for name in sorted({module.partition(".")[0] for module in imports(path)})
        if name in PLACES and not here.startswith(PLACES[name] or ("-",))
    ]
    assert not wrong, "\n".join(wrong)


def test_core_stands_on_the_standard_library_and_pydantic() -> None:
    allowed = set(sys.stdlib_module_names) | {"pydantic"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((ROOT / "core").rglob("*.py"))
        for module in sorted(imports(path))
        if module.partition(".")[0] not in allowed and not module.startswith("leptonai.core")
    ]
    assert not wrong, "\n".join(wrong)


# A fork server gives each job the environment that the job names; that is its work.
ENVIRONMENT = ("core/settings.py", "adapters/executors/forkserver.py")


def test_the_environment_is_read_in_one_place() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}, line {node.lineno}: use core/settings.py"
        for path in FILES
        if path.relative_to(ROOT).as_posix() not in ENVIRONMENT
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}
    ]
    assert not wrong, "\n".join(wrong)


FORBIDDEN_CALLS = {"pickle.load", "pickle.loads", "torch.load", "joblib.load", "yaml.load", "eval", "exec", "os.system"}


def test_nothing_runs_bytes_as_code() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}, line {node.lineno}: {ast.unparse(node.func)}"
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS
    ]
    assert not wrong, "\n".join(wrong)
