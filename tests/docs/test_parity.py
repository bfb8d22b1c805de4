"""The documentation names everything that is public, and nothing is public that it does not name."""

import re
import sys
from pathlib import Path

import leptonai
from leptonai.core import errors
from leptonai.core.errors import LeptonError
from leptonai.core.settings import SETTINGS
from leptonai.core.stages import STAGES

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import generate  # noqa: E402

sys.path.pop(0)
TEXT = "\n".join(
    generate.on_page_markdown(p.read_text("utf-8")) for p in (*(ROOT / "docs").rglob("*.md"), ROOT / "README.md")
)


def test_every_setting_is_documented() -> None:
    assert [s.variable for s in SETTINGS.values() if f"`{s.variable}`" not in TEXT] == []


def test_every_stage_is_documented() -> None:
    assert [name for name in STAGES if f"| `{name}` |" not in TEXT] == []


def test_every_error_is_documented() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LeptonError)]
    assert [kind.code for kind in kinds if f"| `{kind.code}` |" not in TEXT] == []


def test_every_route_and_command_is_documented() -> None:
    assert "| `POST` | `/api/v1/runs` |" in TEXT or "| `POST` | `/runs` |" in TEXT
    for command in (
        "dataset create",
        "run logs",
        "model create",
        "service create",
        "key delete",
        "doctor",
        "demo",
        "up",
    ):
        assert f"`lepton {command}`" in TEXT


def test_every_public_name_is_documented() -> None:
    names = [name for name in leptonai.__all__ if not name.startswith("_")]
    assert [name for name in names if not re.search(rf"\b{name}\b", TEXT)] == []


def test_the_navigation_has_every_page() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in navigation] == []
