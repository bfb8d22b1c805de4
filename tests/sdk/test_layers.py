"""``leptonai.layers`` is Keras's, loaded late, and says what to install where it is not."""

import subprocess
import sys

import pytest


def run(code: str, tmp_path: object = None) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_layers_are_those_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    code = (
        "import sys, leptonai\nlayers = leptonai.layers\nassert 'keras' not in sys.modules\n"
        "import keras\nassert layers.Dense is keras.layers.Dense and 'Embedding' in dir(layers)\n"
        "try:\n    layers.Densee\nexcept AttributeError as error:\n    print(error)"
    )
    assert "Densee" in run(code)


def test_without_keras_one_line_says_what_to_install() -> None:
    code = (
        "import sys\nsys.modules['keras'] = None\nimport leptonai\n"
        "try:\n    leptonai.layers.Dense\nexcept leptonai.LeptonError as error:\n    print(error.code, error)"
    )
    out = run(code)
    assert out.startswith("missing_extra leptonai.layers needs keras")
    assert "pip install" in out
