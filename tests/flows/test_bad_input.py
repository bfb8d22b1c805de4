"""What goes wrong in a first hour: each is one clear sentence that names the thing and the way out, and leaves nothing."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import leptonai
from leptonai.core.errors import Invalid, LeptonError

GOOD = "age,income,label\n" + "\n".join(f"{20 + i},{i * 1.5},{i % 2}" for i in range(50)) + "\n"


def ragged(folder: Path) -> Path:
    path = folder / "ragged.csv"
    path.write_text(GOOD + "1,2,3,4\n")
    return path


def late_change(folder: Path) -> Path:
    path = folder / "late.csv"
    rows = [f"{i},{i % 97},{i % 2}" for i in range(900_000)]
    path.write_text("id,age,label\n" + "\n".join(rows) + "\n900000,forty,1\n" + "\n".join(rows[:10]) + "\n")
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.csv"
    path.write_text("")
    return path


def not_an_image(folder: Path) -> Path:
    from PIL import Image

    for name in ("cat", "dog"):
        (folder / "pets" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), "uint8")).save(folder / "pets" / name / "1.png")
    (folder / "pets" / "dog" / "2.png").write_text("this is no image")
    return folder / "pets"


def empty_target(folder: Path) -> Path:
    path = folder / "target.csv"
    path.write_text(GOOD + "41,3.5,\n")
    return path


def missing(folder: Path) -> Path:
    return folder / "nowhere.csv"


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (missing, ["nowhere.csv"]),
        (empty, ["empty.csv", "empty"]),
        (ragged, ["ragged.csv", "row 51", "4"]),
        (late_change, ["late.csv", "900,?001", "age", "forty"]),
        (not_an_image, ["dog/2.png", "image"]),
        (empty_target, ["target.csv|label", "label", "row 51|1 row|1 empty|1 missing"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_files_that_cannot_be_a_dataset(
    make: Callable[[Path], Path], names: list[str], home: Path, tmp_path: Path
) -> None:
    with pytest.raises(LeptonError) as caught:
        leptonai.create_dataset("bad", files=make(tmp_path))
    assert [name for name in names if not re.search(name, caught.value.message)] == [], caught.value.message
    with pytest.raises(LeptonError):
        leptonai.get_dataset("bad")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "A name", "x" * 101, "a\nb", "{{7*7}}", "é"])
def test_names_that_are_no_names(name: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    with pytest.raises(Invalid) as caught:
        leptonai.create_dataset(name, files=path)
    assert "name" in caught.value.message


def test_models_that_do_not_fit(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    data = leptonai.create_dataset("good", files=path, types={"label": "category"})

    wide = leptonai.Model(nn.Sequential(nn.Linear(7, 2)))
    wide.compile(optimizer="adam", loss="cross_entropy")
    with pytest.raises(Invalid) as caught:
        wide.fit(data)
    assert re.search(r"\b7\b", caught.value.message)
    assert re.search(r"\b2\b", caught.value.message)

    narrow = leptonai.Model(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(Invalid) as caught:
        narrow.compile(optimizer="adamm", loss="cross_entropy")
        narrow.fit(data)
    assert "adamm" in caught.value.message
    assert "adam" in caught.value.message.replace("adamm", "")

    with pytest.raises(Invalid, match="fit"):
        narrow.publish("never-trained")
    with pytest.raises(LeptonError, match="nothing-here"):
        leptonai.get_dataset("nothing-here")


def test_a_wrong_key(home: Path) -> None:
    from leptonai.sdk import client

    url = client.current().url
    stranger = leptonai.Client(host=url, api_key="lepton_wrong")
    try:
        with pytest.raises(LeptonError) as caught:
            stranger.http.call("GET", "/runs")
        assert caught.value.code == "unauthenticated"
        assert "key" in caught.value.message
    finally:
        stranger.close()
