"""The user's own code travels by value: a Run has only what is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from leptonai.adapters.frameworks import packing
from leptonai.core.errors import Invalid

MAIN = """
import sys
from pathlib import Path
from mine.parts import Scale
from leptonai.core import plugins

if __name__ == "__main__":
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.layer = Scale(2.0), nn.Linear(3, 1)

        def forward(self, x):
            return self.layer(self.scale(x))

    def loss(output, target):
        return twice((output - target).square().mean())

    def twice(value):
        return 2 * value

    def largest(output, target):
        return output.max()

    packed = plugins.framework("torch").pack(Net(), {"loss": loss, "metrics": [largest], "optimizer": lambda p: torch.optim.SGD(p, lr=0.01)})
    Path(sys.argv[1]).write_bytes(packed.code)
"""
PARTS = """
from mine import helpers
from torch import nn

class Scale(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return helpers.multiply(x, self.by)
"""
RUN = """
import sys
from pathlib import Path
import numpy as np
from leptonai.core import plugins

learner = plugins.framework("torch").load(Path(sys.argv[1]).read_bytes())
x, y = np.ones((8, 3), "float32"), np.ones(8, "float32")
learner.begin(x, y, "regression", 0, 0)
learner.step(x, y)
print(sorted(learner.metrics()), type(learner.model).__name__, "mine" in sys.modules)
"""


def test_code_that_is_not_installed_where_the_run_is(tmp_path: Path) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    (home / "mine").mkdir(parents=True)
    away.mkdir()
    (home / "mine" / "__init__.py").write_text("")
    (home / "mine" / "helpers.py").write_text("def multiply(x, by):\n    return x * by\n")
    (home / "mine" / "parts.py").write_text(PARTS)
    (home / "main.py").write_text(MAIN)
    (away / "run.py").write_text(RUN)
    for folder, script in ((home, "main.py"), (away, "run.py")):
        done = subprocess.run(
            [sys.executable, script, str(tmp_path / "code")], cwd=folder, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "['largest', 'loss'] Net False"


def test_what_cannot_travel_is_said() -> None:
    import threading

    with pytest.raises(Invalid, match=r"the model cannot travel.*lock"):
        packing.by_value({"held": threading.Lock()}, "the model")


def test_what_is_not_installed_is_said() -> None:
    code = packing.by_value({"a": 1}, "it").replace(b"a", b"a")
    assert packing.unpack(code) == {"a": 1}
    with pytest.raises(Invalid, match="nowhere_to_be_found"):
        packing.unpack(b"cnowhere_to_be_found\nthing\n.")


def test_whose_a_module_is() -> None:
    assert packing.is_users("__main__")
    assert packing.is_users(__name__)
    assert not any(packing.is_users(name) for name in ("json", "numpy", "leptonai.core.ids", "sys", "not.imported"))


def test_an_unknown_name_comes_with_the_nearest() -> None:
    error = packing.unknown("optimizer", "adamm", ["adam", "adamw", "sgd"])
    assert error.message == "there is no optimizer 'adamm': did you mean 'adam' or 'adamw'? known are adam, adamw, sgd"
    assert error.errors[0].field == "optimizer"
