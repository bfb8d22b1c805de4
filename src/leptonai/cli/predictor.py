"""``lepton model create --from service.py:Class``: a service in Python, from the file that holds its class."""

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leptonai.cli import output
from leptonai.core.errors import FieldError, Invalid

_TAKEN = ("files", "requirements", "options", "workers", "memory_mb", "threads", "flavour", "aliases")


def publish(document: Mapping[str, Any], as_: str, *, dry_run: bool) -> Any:
    """Publish the class that `from` names; return the version, or None for a dry run."""
    from leptonai.sdk import predictors
    from leptonai.serving.predictor import signature_of, work_of

    extra = sorted(set(document) - {"name", "from", *_TAKEN})
    if extra:
        raise Invalid(
            f"with --from there is no {extra[0]!r}", errors=[FieldError(name, "leave it out") for name in extra]
        )
    made = load(document["from"])
    given = {name: document[name] for name in _TAKEN if document.get(name) is not None}
    if dry_run:
        work = {name: given.get(name) for name in ("workers", "memory_mb", "threads")}
        facts = {"signature": signature_of(made).to_dict(), "work": asdict(work_of(made, **work))}
        output.would(as_, f"publish model {document['name']}", {**document, **facts})
        return None
    return predictors.publish(made, document["name"], **given)


def load(where: str) -> Any:
    """Import the file, with its folder on the path as Python does it for a script, and return the class it names."""
    path, _, name = where.rpartition(":")
    file = Path(path)
    if not path or not name.isidentifier() or not file.is_file():
        right = "FILE.py:CLASS, such as service.py:Toxic"
        raise Invalid(f"--from {where!r} is not {right}, or there is no such file", errors=[FieldError("from", right)])
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file.resolve())
    if spec is None or spec.loader is None:
        raise Invalid(f"{path} is no Python file", errors=[FieldError("from", "a .py file")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Invalid(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise Invalid(f"{path} has no class {name}", errors=[FieldError("from", "the name of a class in it")])
    return getattr(module, name)
