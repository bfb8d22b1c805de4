"""Files that nobody should trust: each is a clear sentence or is read as it should be, in bounded memory, and no process dies of it.

The files, with what has to be said of each, are in `tests/support/bad_files.py`.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.bad_files import FAMILIES, whole_files


def imported(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.support.bad_importer", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def problem(said: dict[str, Any]) -> str | None:
    """Return what is wrong with what came of a file."""
    error, words = said["error"], said["words"]
    if said["kind"] in ("traceback", "crash", "late"):
        return f"{said['kind']}: {error}"
    if said["grew"] > said["allowed"]:
        return f"took {said['grew']:.0f} MiB"
    if words is None:
        return f"was refused: {error}" if error else None
    if error is None:
        return "was read"
    missing = [word for word in words if not re.search(word if "|" in word else re.escape(word), error)]
    return f"says {error[:400]!r}, without {missing}" if missing or "\n" in error or len(error) > 700 else None


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What an import said of each file, all from one process."""
    return imported(tmp_path_factory.mktemp("bad"), "cases", ",".join(FAMILIES))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_is_told_in_a_sentence(family: str, said: list[dict[str, Any]]) -> None:
    of_it = [one for one in said if one["family"] == family]
    assert len(of_it) >= 15
    bad = [f"{one['what']}: {wrong}" for one in of_it if (wrong := problem(one)) is not None]
    assert bad == [], f"bad {len(bad)}/{len(of_it)}"


@pytest.mark.slow
def test_what_unpacks_for_seconds(tmp_path: Path) -> None:
    found = imported(tmp_path, "cases", "packed", "slow")
    bad = [f"{one['what']}: {wrong}" for one in found if (wrong := problem(one)) is not None]
    assert bad == [], f"bad {len(bad)}/{len(found)}"


@pytest.mark.parametrize("step", [211, pytest.param(1, marks=pytest.mark.slow)])
def test_files_that_are_cut_or_damaged_anywhere(step: int, tmp_path: Path) -> None:
    found = imported(tmp_path, "damaged", str(step))
    bad = {one["what"]: one.get("bad", one) for one in found if one.get("bad") != []}
    assert bad == {}, f"of {sum(one.get('tried', 0) for one in found)}"
    tried = {name: 2 * -(-len(data) // step) for name, data in whole_files().items()}
    assert {one["what"]: one["tried"] for one in found} == tried
