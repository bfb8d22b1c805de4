"""What holds for the repository as a whole."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in names.stdout.splitlines()]


def longer(paths: Iterable[Path], most: int) -> list[str]:
    """Return the files that have more lines."""
    found = {path: len(path.read_text("utf-8").splitlines()) for path in paths}
    return [f"{path.relative_to(ROOT)} has {lines} lines" for path, lines in found.items() if lines > most]


def test_scripts_stay_short() -> None:
    assert not longer(sorted((ROOT / "scripts").iterdir()), 31)


def test_there_is_no_data_or_weight_in_the_repository() -> None:
    big = [path.name for path in tracked() if path.stat().st_size > 500_000]
    assert not big


def test_each_file_has_one_subject() -> None:
    assert not longer(tracked("src/*.py"), 450), "think again: one file, one subject"


def test_the_chinese_readme_has_the_same_parts() -> None:
    def skeleton(name: str) -> tuple[int, list[str]]:
        text = (ROOT / name).read_text("utf-8")
        headings = [line for line in text.splitlines() if line.startswith("#") and not line.startswith("#!")]
        code = text.split("```")[1::2]
        return len(headings), [block.strip() for block in code]

    assert skeleton("README.md") == skeleton("README.zh-CN.md")
