"""The demo, as `scripts/demo --once -o json` runs it, alone and two at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def start(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "leptonai.cli", "demo", "--once", "-o", "json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow  # the README and the quickstart tell much the same every day
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [1, 2])
def test_demos_at_once_tell_the_same_story_and_leave_nothing(count: int, tmp_path: Path) -> None:
    demos = [start(tmp_path) for _ in range(count)]
    for demo in demos:
        out, err = demo.communicate(timeout=550)
        assert demo.returncode == 0, err[-3000:]
        told = json.loads(out.splitlines()[-1])
        assert told["images"]["accuracy"] > 0.95
        assert told["table"]["roc_auc"] > 0.98
        assert told["p50_ms"] > 0
        assert told["seconds"] > 0
        assert told["service_url"].startswith("http://127.0.0.1:")
        assert "Traceback" not in err
    assert not [left for left in tmp_path.iterdir() if left.name.startswith("leptonai-demo-")]
