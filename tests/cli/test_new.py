"""``lepton new``: what it writes runs as it is written, and nothing is written over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leptonai.cli import new
from leptonai.core.errors import Conflict, Invalid


@pytest.mark.parametrize("kind", ["service", "table", pytest.param("image", marks=pytest.mark.slow)])
def test_a_project_runs_as_it_is_written(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / f"my-{kind}"
    new.write(folder, kind)
    assert {"README.md", "requirements.txt", "serve.py", "test_project.py", ".gitignore"} <= {
        path.name for path in folder.iterdir()
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=250, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "1 passed" in done.stdout


def test_every_file_is_python_that_can_be_read_and_names_the_project(tmp_path: Path) -> None:
    for kind in new.KINDS:
        new.write(tmp_path / f"a-{kind}", kind)
        for path in (tmp_path / f"a-{kind}").glob("*.py"):
            compile(path.read_text("utf-8"), str(path), "exec")
            assert "$" not in path.read_text("utf-8")
        assert (tmp_path / f"a-{kind}" / "README.md").read_text("utf-8").startswith(f"# a-{kind}\n")


def test_nothing_is_written_over_and_a_name_no_model_may_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(Conflict, match="has something in it: choose another name"):
        new.write(tmp_path / "there", "table")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]
    with pytest.raises(
        Invalid, match="the folder's name is that of the project's model, and 'My Project' cannot be one"
    ):
        new.write(tmp_path / "My Project", "table")
    assert not (tmp_path / "My Project").exists()
