"""Imports of files that nobody should trust, each in a process of its own, with what it said and the memory that it took.

    python -m tests.support.bad_importer FOLDER cases FAMILY,… [slow]   each case of `bad_files`
    python -m tests.support.bad_importer FOLDER damaged STEP            good files cut, and with a byte changed, at each STEPth place

A line of JSON for each: what, the error (or null), its kind, the growth of the process's memory in MiB. The kind "crash" is a
process that died, "late" one that had to be ended.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars  # noqa: F401 - so that it is no part of what an import takes
import soundfile  # noqa: F401
from PIL import Image
from tests.support.bad_files import FAMILIES, Bad, whole_files
from tests.support.imports import Importer

from leptonai.core.errors import LeptonError

Image.init()
SECONDS = 300.0


def memory(field: str) -> float:
    """Return what the kernel says of this process's memory, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def attempt(folder: Path, files: dict[str, bytes], options: dict[str, Any]) -> dict[str, Any]:
    """Import files; return what was said."""
    importer = Importer(folder)
    sources = [
        importer.source(name, data, name.split("/")[0] if "/" in name else None, part=16 << 20)
        for name, data in files.items()
    ]
    Path("/proc/self/clear_refs").write_text("5")  # what was the most so far is forgotten
    begun = memory("VmRSS")
    try:
        from pydantic import ValidationError

        try:
            found = importer.result(sources, **options)
        except ValidationError as error:  # what a client is told before anything travels
            return {
                "kind": "invalid",
                "error": str(error.errors()[0]["loc"][0]) + " " + error.errors()[0]["msg"],
                "grew": 0,
            }
        return {"kind": None, "error": None, "rows": found["rows"], "grew": memory("VmHWM") - begun}
    except LeptonError as error:
        fields = [field.field for field in error.errors]
        return {"kind": error.code, "error": error.message, "fields": fields, "grew": memory("VmHWM") - begun}
    except BaseException as error:
        return {"kind": "traceback", "error": f"{type(error).__name__}: {error}"[:300], "grew": memory("VmHWM") - begun}


def apart(work: Callable[[], Any]) -> Any:
    """Do something in a process of its own; return what it returns, as JSON, or how it ended."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        with Path(os.devnull).open("w") as null:
            os.dup2(null.fileno(), 2)
        with os.fdopen(write, "w") as out, contextlib.suppress(BrokenPipeError):
            out.write(json.dumps(work()))
        os._exit(0)
    os.close(write)
    data, until = b"", time.monotonic() + SECONDS
    with os.fdopen(read, "rb", buffering=0) as file:
        while select.select([file], [], [], max(0.0, until - time.monotonic()))[0]:
            part = file.read(1 << 16)
            if not part:
                break
            data += part
    late = time.monotonic() >= until
    if late:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if late or not data:
        return {"kind": "late" if late else "crash", "error": f"status {status}", "grew": 0}
    return json.loads(data)


def damaged(folder: Path, name: str, step: int) -> dict[str, Any]:
    """Import a file that is cut at each place, and one with each byte changed; return those that ended in no sentence."""
    whole = whole_files()[name]
    found: dict[str, Any] = {"tried": 0, "said": 0, "bad": []}
    for number, at in enumerate(range(0, len(whole), step)):
        for what, data in (("cut", whole[:at]), ("changed", whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])):
            said = attempt(folder / f"{number}-{what}", {name: data}, {"target": ""})
            shutil.rmtree(folder / f"{number}-{what}")  # many small files are slow to forget later
            found["tried"] += 1
            found["said"] += said["kind"] not in (None, "traceback")
            if said["kind"] == "traceback" or (said["error"] and (name not in said["error"] or "\n" in said["error"])):
                found["bad"].append([at, what, said["error"]])
    return found


def main(folder: Path, what: str, which: str, *more: str) -> None:
    """Print a line for each case."""
    if what == "damaged":
        for name in whole_files():
            said = apart(lambda name=name: damaged(folder / name.replace("/", "-"), name, int(which)))  # type: ignore[misc]
            print(json.dumps({"what": name, **said}), flush=True)
        return
    for family in which.split(","):
        cases: Iterator[Bad] = FAMILIES[family](*([True] if more else []))
        for number, case in enumerate(cases):
            place = folder / f"{family}-{number}"
            said = apart(lambda case=case, place=place: attempt(place, case.files, dict(case.options)))  # type: ignore[misc]
            about = {"family": family, "what": case.what, "words": case.words, "allowed": case.memory}
            print(json.dumps({**about, **said}), flush=True)
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
