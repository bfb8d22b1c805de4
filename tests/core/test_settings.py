from pathlib import Path

import pytest

from leptonai.core import settings
from leptonai.core.errors import Invalid


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for setting in settings.SETTINGS.values():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "project" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "deep")
    return tmp_path


def test_argument_before_environment_before_project_before_user_before_default(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.get("workers") == "2"
    user = empty / "home" / ".leptonai" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text("workers = 3\n")
    assert settings.get("workers") == "3"
    (empty / "project" / "leptonai.toml").write_text("workers = 4\n")
    assert settings.get("workers") == "4"
    monkeypatch.setenv("LEPTONAI_WORKERS", "5")
    assert settings.get("workers") == "5"
    assert settings.get("workers", 6) == "6"
    assert settings.number("workers", "7") == 7.0


def test_a_file_that_is_wrong_says_where(empty: Path) -> None:
    file = empty / "project" / "leptonai.toml"
    file.write_text("wokers = 4\n")
    with pytest.raises(Invalid, match="wokers"):
        settings.get("workers")
    file.write_text("workers = \n")
    with pytest.raises(Invalid, match=r"leptonai\.toml"):
        settings.get("workers")


def test_a_number_must_be_one(empty: Path) -> None:
    with pytest.raises(Invalid, match="LEPTONAI_WORKERS"):
        settings.number("workers", "many")


def test_home_is_absolute(empty: Path) -> None:
    assert settings.home() == empty / "home" / ".leptonai"
    assert settings.home("x").is_absolute()
