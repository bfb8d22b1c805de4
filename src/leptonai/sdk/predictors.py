"""`publish` and `serve`: a user's own Python class becomes a model version, and answers as a service."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.refs import check_name
from leptonai.core.stages import PACK, load
from leptonai.sdk import client, runs
from leptonai.sdk.specs import check, sent
from leptonai.serving.predictor import Context, Predictor, signature_of, work_of
from leptonai.serving.spec import Package

if TYPE_CHECKING:
    from leptonai.sdk.registry import ModelVersion
    from leptonai.sdk.replicas import Range
    from leptonai.sdk.services import Service

__all__ = ["Context", "Files", "Predictor", "publish", "serve"]

Files = Mapping[str, "str | Path | bytes"] | Iterable["str | Path"] | str | Path
Verbose = bool | Literal["auto", 0, 1, 2]


def publish(
    made: Predictor | type[Predictor],
    name: str,
    *,
    files: Files = (),
    requirements: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    workers: int = 1,
    memory_mb: int | None = None,
    threads: int = 1,
    flavour: str | None = None,
    aliases: Iterable[str] = (),
    verbose: Verbose = "auto",
) -> "ModelVersion":
    """Make a model version of a `Predictor`, which is loaded and tried in a process of its own before it is taken.

    `files`: paths of files or folders that its `load` finds by ``context.path(name)``, or a mapping of names to paths or bytes.
    `requirements`: such as ``["transformers>=4.40"]``, which must be installed at its Site. `options`: JSON for
    ``context.options``. `workers`, with `memory_mb` and `threads` each, compute it. `flavour`: whose libraries are loaded before
    its worker starts ("data", "torch", …); default: told from the code. Raises `Invalid` that says what does not fit.
    """
    from leptonai.sdk.registry import made_by

    kind = made if isinstance(made, type) else type(made)
    work = work_of(made, workers=workers, memory_mb=memory_mb, threads=threads)
    signature = signature_of(made)
    check_name(name)
    found = dict(_files(files))
    code = load(PACK)(made, f"the class {kind.__name__}")
    via = client.current()
    document = {
        "name": name,
        "aliases": [aliases] if isinstance(aliases, str) else list(aliases),
        "code": via.http.upload(code),
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "python": list(sys.version_info[:2]),
        "signature": signature.to_dict(),
        "work": asdict(work),
        "files": {
            path: via.http.upload(data if isinstance(data, bytes) else data.read_bytes())
            for path, data in found.items()
        },
        "requirements": [requirements] if isinstance(requirements, str) else list(requirements),
        "options": dict(options or {}),
        "flavour": flavour or _flavour(code),
    }
    spec = sent(check(Package, document, "publish"))
    record = runs.submit(via.http, "package", spec, limits={"memory_mb": memory_mb} if memory_mb else None)
    shown = None if verbose == "auto" or verbose else False
    return made_by(runs.follow(via.http, record.id, title="publish", show_progress=shown), via)


def serve(
    made: Predictor | type[Predictor],
    name: str,
    *,
    site: str = "home",
    public: bool | None = None,
    replicas: "Range | None" = None,
    wait: bool = True,
    timeout: float = 300.0,
    **more: Any,
) -> "Service":
    """Publish a `Predictor` as the next version of the model `name`, and make it answer under that name.

    `more`: what `publish` takes. `replicas`, such as ``(1, 4)``: how many processes compute it, as its queue needs; else as many as
    `workers` says. A service that exists moves to it without a failed request. See also `ModelVersion.deploy`.
    """
    return publish(made, name, **more).deploy(
        name, site=site, public=public, replicas=replicas, wait=wait, timeout=timeout
    )


def _files(given: Files) -> Iterable[tuple[str, Path | bytes]]:
    """Yield names below the folder that the service will see, and what is in the files."""
    if isinstance(given, Mapping):
        for name, found in given.items():
            yield from [(name, found)] if isinstance(found, bytes) else _below(name, Path(found))
        return
    for found in [given] if isinstance(given, (str, Path)) else given:
        yield from _below(Path(found).name, Path(found))


def _below(name: str, path: Path) -> Iterable[tuple[str, Path | bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            below = file.relative_to(path)
            if file.is_file() and not any(part.startswith((".", "__pycache__")) for part in below.parts):
                yield f"{name}/{below.as_posix()}", file
    elif path.is_file():
        yield name, path
    else:
        raise Invalid(f"files: there is no file or folder {str(path)!r}", errors=[FieldError("files", str(path))])


def _flavour(code: bytes) -> str:
    """Tell from packed code which libraries its worker should find loaded."""
    return next((word for word in ("torch", "tensorflow", "sklearn") if word.encode() in code), "data")
