"""The snippet typed into a Python prompt, and into a notebook, where objects show themselves as HTML."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.flows.test_snippet import SNIPPET, write_files

NOTEBOOK = """
import nbclient, nbformat, sys
notebook = nbformat.v4.new_notebook()
cells = ["import keras", *sys.argv[1].strip().split("\\n"), "dataset", "history", "model"]
notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
nbclient.NotebookClient(notebook, timeout=250, kernel_name="python3").execute()
shown = [out["data"] for cell in notebook.cells for out in cell["outputs"] if out["output_type"] == "execute_result"]
html = [data["text/html"] for data in shown if "text/html" in data]
assert len(html) >= 2 and "my_dataset" in html[0] and "<script" not in "".join(html), shown
"""


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "LEPTONAI_HOME": str(tmp_path / "home"),
        "KERAS_BACKEND": "torch",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def test_the_snippet_typed_into_a_prompt(tmp_path: Path) -> None:
    assert SNIPPET is not None
    write_files(tmp_path)
    typed = f"import keras\n{SNIPPET[1]}\ndataset\nhistory\npredictions.shape\n"
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=typed, cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert "my_dataset" in done.stdout
    assert "(48, 2, 1)" in done.stdout


@pytest.mark.slow  # the prompt tells of typing, tests/sdk of HTML
def test_the_snippet_typed_into_a_notebook(tmp_path: Path) -> None:
    assert SNIPPET is not None
    write_files(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, SNIPPET[1]], cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, timeout=290,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
