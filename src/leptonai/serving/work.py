"""What the Run does that makes a model version of a user's class: it loads the class and tries it, then keeps it.

The Run's own process is the only place where that happens before the version is deployed, with the limits that its workers
will have.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leptonai.core.errors import Invalid, LeptonError
from leptonai.core.stages import Handle
from leptonai.serving import sealed
from leptonai.serving.arrays import example
from leptonai.serving.predictor import FILES, WRITTEN
from leptonai.serving.spec import Package
from leptonai.serving.workers import KEY
from leptonai.serving.written import Written, open_written

ROWS = (1, 2, 8)


def package(spec: Package, handle: Handle) -> dict[str, Any]:
    """Return what `registry.verbs.settle_export` needs. Raises `Invalid` with the reason why the class cannot serve."""
    about = {"python": list(spec.python), "requirements": list(spec.requirements), "options": spec.options}
    with handle.blobs.open(spec.code) as file:
        code = file.read()
    numbers: dict[str, int] = {}
    contents = {"code": hashlib.sha256(code).hexdigest()}
    total = len(code)
    try:
        for name, blob in spec.files.items():
            with handle.blobs.open(blob) as source:
                numbers[name] = sealed.seal(source, name)
            with os.fdopen(os.dup(numbers[name]), "rb") as again:
                again.seek(0)
                contents[FILES + name] = hashlib.file_digest(again, "sha256").hexdigest()
                total += again.tell()
        handle.progress(1, 3, "files")
        folder = sealed.lay(Path("files").absolute(), numbers)
        made = _loaded(code, about, folder, spec)
        handle.progress(2, 3, "loaded")
        if spec.work.predicts:
            for rows in ROWS:
                _tried(made, rows, spec)
    finally:
        for number in numbers.values():
            os.close(number)
    handle.progress(3, 3, "tried")
    text = json.dumps(about, sort_keys=True).encode()
    contents["predictor.json"] = hashlib.sha256(text).hexdigest()
    lineage = {
        "class": spec.kind,
        "code": {"sha256": contents["code"]},
        "files": {name: contents[FILES + name] for name in spec.files},
        "flavour": spec.flavour,
        KEY: asdict(spec.work),
        **about,
    }
    behaviour = [sorted(contents.items()), lineage, spec.signature.to_dict()]
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "digest": hashlib.sha256(json.dumps(behaviour, sort_keys=True).encode()).hexdigest(),
        "framework": WRITTEN,
        "files": {
            "code": spec.code,
            "predictor.json": handle.blobs.write([text]).id,
            **{FILES + name: blob for name, blob in spec.files.items()},
        },
        "bytes": total,
        "signature": spec.signature.to_dict(),
        "metrics": {},
        "lineage": lineage,
        "note": "a class in Python, computed by workers of its own",
    }


def _loaded(code: bytes, about: dict[str, Any], folder: Path, spec: Package) -> Written:
    try:
        return open_written(code, about, folder, spec.signature)
    except LeptonError:
        raise
    except Exception as error:
        raise Invalid(f"{spec.kind or 'the class'} cannot be loaded: {type(error).__name__}: {error}"[:800]) from error


def _tried(made: Written, rows: int, spec: Package) -> None:
    try:
        made.predict({tensor.name: example(tensor, rows) for tensor in spec.signature.inputs})
    except Invalid:
        return  # it looks at its input, and refuses what was made up
    except LeptonError as error:
        raise Invalid(f"{spec.kind or 'the class'}: {error.message}") from error
    except Exception as error:
        raise Invalid(
            f"{spec.kind or 'the class'} cannot predict a batch of {rows} rows of zeros or empty texts: "
            f"{type(error).__name__}: {error}"[:800]
        ) from error
