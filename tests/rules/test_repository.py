"""What holds for the repository as a whole."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in names.stdout.splitlines()]


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").iterdir()), ids=lambda p: p.name)
def test_scripts_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 32


def test_there_is_no_data_or_weight_in_the_repository() -> None:
    big = [path.name for path in tracked() if path.stat().st_size > 500_000]
    assert not big


@pytest.mark.parametrize("path", tracked("src/*.py"), ids=lambda p: p.name)
def test_each_file_has_one_subject(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 450, "think again: one file, one subject"


def test_the_chinese_readme_has_the_same_parts() -> None:
    def skeleton(name: str) -> tuple[int, list[str]]:
        text = (ROOT / name).read_text("utf-8")
        headings = [line for line in text.splitlines() if line.startswith("#") and not line.startswith("#!")]
        code = text.split("```")[1::2]
        return len(headings), [block.strip() for block in code]

    assert skeleton("README.md") == skeleton("README.zh-CN.md")
