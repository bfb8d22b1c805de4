"""The promised snippet, word for word, with TensorFlow's tf.keras and with Keras on PyTorch and on JAX; typed and in a notebook."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.back_end import needs

ROOT = Path(__file__).parents[2]
SNIPPET = re.search(
    r"```python\n(import leptonai\nleptonai\.api_key.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
)

HEADS = {
    "tf.keras": ("import tensorflow as tf\nkeras = tf.keras\n", "tensorflow"),
    "keras on torch": ("import keras\n", "torch"),
    "keras on jax": ("import keras\n", "jax"),
}


def write_files(folder: Path) -> None:
    (folder / "data").mkdir()
    for name in ("train", "test"):
        # Whole numbers that could be class numbers: the loss says that they are amounts.
        rows = "\n".join(f"{i % 50},{i % 11},{(i % 50) // 5}" for i in range(120))
        (folder / "data" / f"{name}.csv").write_text(f"word,other,label\n{rows}\n")


# On PyTorch it runs each time as part of the README, in tests/docs.
@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_the_promised_snippet_runs_word_for_word(head: str, tmp_path: Path) -> None:
    assert SNIPPET is not None
    imports, backend = HEADS[head]
    needs(backend)
    write_files(tmp_path)
    code = (
        imports
        + SNIPPET[1]
        + (
            "\nimport numpy as np\nassert isinstance(predictions, np.ndarray) and len(predictions) == len(test) == 48"
            "\nassert len(history.history['val_mae']) == 10 and history.history['loss'][-1] < history.history['loss'][0]"
            "\nmine = model.model.predict(np.array([[1, 1]]), verbose=0)\nassert np.isfinite(mine).all()"
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=280,
        env={**os.environ, "LEPTONAI_HOME": str(tmp_path / "home"), "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr.count("is not used") == 1, "a key that is set without a host is noted once"
