"""Every code block of the documentation runs, page by page, as a reader would run it: in order, in one folder.

Python blocks of a page share one session; bash blocks run between them. A hidden ``<!-- setup … -->`` comment makes the
files that a page assumes. Blocks marked ``text`` are shown, not run: output, and what needs another machine.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"<!-- setup\n(?P<setup>.*?)-->|^```(?P<kind>\w+)\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)

# The README's blocks that are whole programs of their own, and the tests that run them.
ELSEWHERE = {
    "./scripts/demo": "tests/flows/test_demo.py",
    "pip install": "scripts/install, by every run of the tests",
}
README_SETUP = """
from pathlib import Path
import keras
Path("data").mkdir()
for name in ("train", "test"):
    Path(f"data/{name}.csv").write_text("word,label\\n" + "\\n".join(f"{i % 50},{i % 7 / 7}" for i in range(60)) + "\\n")
"""


# Pages that take longest, most of it in trainings; flows tell stories that are much alike in the daily run.
LONG = {
    f"{name}.md"
    for name in (
        *("train", "transfer", "augment", "memory", "labels", "evaluate", "tune", "auto", "rows", "cli"),
        *("check", "distributed", "profile", "clean", "private", "datasets", "python-service"),
    )
}


def script(page: Path) -> str | None:
    """Return the page as one Python program; None when it has nothing to run."""
    parts = [README_SETUP] if page.name == "README.md" else []
    for found in BLOCK.finditer(page.read_text("utf-8")):
        code = found["setup"] or found["code"]
        if found["setup"] or found["kind"] == "python":
            parts.append(code)
        elif found["kind"] == "bash" and not code.startswith(tuple(ELSEWHERE)):
            parts.append(
                f"import subprocess\nsubprocess.run(['bash', '-euo', 'pipefail', '-c', {code!r}], check=True)\n"
            )
        elif found["kind"] not in {"text", "bash"}:
            raise AssertionError(f"{page.name}: a {found['kind']} block is neither run nor marked text")
    if any("subprocess" in part for part in parts):
        # One server for all commands of the page, as `lepton up` gives; else each would start one and stop it.
        parts.insert(0, "from leptonai.sdk import client\nclient.current().http\n")
    return "\n".join(parts) if parts else None


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=page.relative_to(ROOT).as_posix().replace("/", "-"),
            marks=[pytest.mark.slow] * (page.parent.name == "how-to" and page.name in LONG),
        )
        for page in PAGES
        if script(page)
    ],
)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "page.py").write_text(script(page) or "")
    environment = {
        **os.environ,
        "LEPTONAI_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
        "KERAS_BACKEND": "torch",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=work, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
