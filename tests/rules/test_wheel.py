"""What is compiled into a wheel, and that nothing of it is ever beside the sources."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"][
    "custom"
]
# A wheel that has the compiled modules answers a request, and says what it is.
PROGRAM = """
import sys
from pathlib import Path
from tests.support.bundles import adder
from tests.support.plane import Plane
plane = Plane(Path(sys.argv[1]))
plane.load(a=adder(1))
print(plane.rows("a", {"x": 2.0}).status_code, 'build="compiled"' in plane.client.get("/metrics").text)
plane.close()
import leptonai.serving.plane.http as http
print(http.__file__)
"""


def test_nothing_compiled_is_beside_the_sources() -> None:
    assert not [*(ROOT / "src").rglob("*.so"), *(ROOT / "src").rglob("*.c")]
    assert [name for name in HOOK["modules"] if not (ROOT / "src" / f"{name.replace('.', '/')}.py").is_file()] == []
    assert not HOOK["enable-by-default"]


def test_every_type_that_is_needed_to_compile_has_a_tested_version() -> None:
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert set(HOOK["types"]) <= pinned


@pytest.mark.slow
def test_the_compiled_wheel_answers(tmp_path: Path) -> None:
    built = subprocess.run(
        [ROOT / "scripts" / "wheel", "--unpacked"], capture_output=True, text=True, timeout=1500, check=False
    )
    assert built.returncode == 0, built.stderr
    folder = Path(built.stdout.strip())
    assert {str(path.relative_to(folder)).partition(".")[0].replace("/", ".") for path in folder.rglob("*.so")} == {
        *HOOK["modules"],
        "leptonai__mypyc",
    }
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, env=environment, check=False
    )
    answered, where = ran.stdout.splitlines() or (ran.stderr, "")
    assert answered == "200 True" and where.startswith(str(folder)) and where.endswith(".so")
