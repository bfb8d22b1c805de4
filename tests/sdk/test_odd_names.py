"""Names that mean something elsewhere are names of files, class folders and columns here: kept letter by letter, or refused in a sentence."""

import csv
import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import numpy as np
import polars  # noqa: F401  # it sets a variable when it is first imported
import pytest
from tests.support.home import data_home
from tests.support.imports import Importer, picture
from tests.support.names import NAMES
from tests.support.warm import libraries

import leptonai
from leptonai.core.errors import Invalid, LeptonError
from leptonai.data.spec import SourceFile
from leptonai.sdk.datasets import Dataset, create_dataset
from leptonai.sdk.sources import sources

PIXELS = picture(np.zeros((4, 4)))


def can_be_a_file(name: str) -> bool:
    """Whether this machine's file system takes it, and does not hide it."""
    return not ({"/", "\0"} & set(name) or name in ("", ".", "..") or len(name.encode()) > 250 or name.startswith("."))


FILES = [name for name in dict.fromkeys(NAMES) if can_be_a_file(name)]
COLUMNS = [name for name in dict.fromkeys(name.strip() for name in NAMES) if name and "\0" not in name]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    libraries()
    with data_home(tmp_path_factory.mktemp("names") / "home") as folder:
        yield folder


def read(path: Path, importer: Importer) -> list[str]:
    """Import what a folder or an archive holds; return the classes."""
    with ExitStack() as keep:
        files: list[SourceFile] = []
        for source in sources(str(path), keep):
            with source.open() as file:
                files.append(importer.source(source.name, file.read(), source.label))
        made = importer.made(files, name="made")
    return [str(value) for value in next(column for column in made.columns if column.name == made.target).categories]


def test_folders_and_files_in_them(tmp_path: Path) -> None:
    place = tmp_path / "images"
    for name in FILES:
        (place / name).mkdir(parents=True)
        (place / name / f"{name[:200]}.png").write_bytes(PIXELS)
    assert len(FILES) > 40
    assert read(place, Importer(tmp_path / "store")) == sorted(FILES)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "store"}
    assert sorted(path.name for path in place.iterdir()) == sorted(FILES)


def test_folders_and_files_in_an_archive(tmp_path: Path) -> None:
    path, bad, taken = tmp_path / "t.zip", [], 0
    importer = Importer(tmp_path / "store")
    for name in NAMES:
        for inside in (f"{name}/1.png", f"plain/{name}.png"):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("other/1.png", PIXELS)
                archive.writestr(zipfile.ZipInfo(inside), PIXELS)
            label = str(PurePosixPath(inside).parent).partition("\0")[0]
            try:
                importer.desk.datasets.clear()
                classes = read(path, importer)
                taken += 1
                if not set(classes) <= {label, label.rpartition("/")[2], "plain", "other"}:
                    bad.append((inside, classes))
            except LeptonError as error:
                if "\n" in error.message or "t.zip" not in error.message or len(error.message) > 700:
                    bad.append((inside, error.message))
            for child in tmp_path.iterdir():
                if child.name not in ("t.zip", "store"):
                    bad.append((inside, str(child)))
    assert bad == [], f"bad {len(bad)}/{2 * len(NAMES)}"
    assert taken > len(NAMES)


def test_a_folder_that_is_none_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    for names, classes in (
        (("./cat/1.png", "dog//1.png"), ["cat", "dog"]),
        (("./1.png", "dog/1.png"), None),
        (("./t.csv", "t.csv"), None),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), PIXELS)
        if classes is not None:
            assert read(path, Importer(tmp_path / "store")) == classes
            continue
        with pytest.raises(Invalid, match=r"lies beside the class folders|holds 't.csv' twice"):
            read(path, Importer(tmp_path / "store"))


def test_a_column_of_any_name(tmp_path: Path) -> None:
    bad = []
    importer = Importer(tmp_path / "store")
    for number, name in enumerate(NAMES):
        rows = [{name: n, "y": n % 2} for n in range(3)]
        for file, data in (
            ("t.csv", "".join(f"{json_quoted(name)},y\n" if n < 0 else f"{n},{n % 2}\n" for n in range(-1, 3))),
            ("t.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        ):
            try:
                made = importer.made({file: data}, target="y", name=f"made-{number}-{file[2:]}")
                if [column.name for column in made.columns] != [name.strip() if file == "t.csv" else name, "y"]:
                    bad.append((name, file, [column.name for column in made.columns]))
            except Invalid as error:
                if "\n" in error.message or "t." not in error.message or len(error.message) > 700:
                    bad.append((name, file, error.message))
    assert bad == [], f"bad {len(bad)}/{2 * len(NAMES)}"


def json_quoted(name: str) -> str:
    """Return a name as a CSV header has it."""
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture(scope="module")
def odd(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("odd") / "-rf --help.csv"
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "label"])
        for row in random.integers(0, 9, (40, len(COLUMNS))).tolist():
            writer.writerow([*row, ["<b>no</b>", "=1+1"][row[0] > 4]])
    return create_dataset("odd", files=path, target="label")


def test_columns_of_odd_names_are_read_and_shown(odd: Dataset, tmp_path: Path) -> None:
    names = [*COLUMNS, "label"]
    assert [column.name for column in odd.columns] == names
    assert list(odd.head(1)[0]) == list(odd.describe().to_dict()) == odd.polars().columns == list(odd.pandas()) == names
    assert set(next(iter(odd.torch(8)))) == set(names)
    begun = "<script>\n"  # the page's own
    for page in (odd._repr_html_(), odd.head(2)._repr_html_(), odd.describe()._repr_html_(), odd.profile().html()):
        assert page.count("<script>") == page.count(begun)
        assert '"><img>' not in page
    odd.to_parquet(tmp_path / "out.parquet")
    again = create_dataset("odd-again", files=tmp_path / "out.parquet", target="label")
    assert again.polars().equals(odd.polars())
    odd.to_csv(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert [one for one in header if one[:1] in ("=", "+", "-", "@", "\t", "\r")] == []
    assert [one.removeprefix("'") for one in header] == [one.removeprefix("'") for one in names]
    assert {path.name for path in tmp_path.iterdir()} == {"out.parquet", "out.csv"}


@pytest.mark.filterwarnings("ignore")  # of mlcroissant and what it stands on
def test_metadata_of_odd_names_is_valid(odd: Dataset, tmp_path: Path) -> None:
    import mlcroissant

    odd.to_croissant(tmp_path / "odd.croissant")
    told = mlcroissant.Dataset(jsonld=tmp_path / "odd.croissant")
    assert not told.metadata.issues.errors
    assert len(next(iter(told.records("rows")))) == len(odd.columns)


@pytest.fixture(scope="module")
def model(odd: Dataset) -> leptonai.Model:
    from sklearn.tree import DecisionTreeClassifier

    made = leptonai.Model(DecisionTreeClassifier())
    made.fit(odd)
    return made


def test_a_model_learns_from_columns_of_odd_names(odd: Dataset, model: leptonai.Model) -> None:
    assert model.evaluate(odd).accuracy == 1
    assert np.argmax(model.predict(odd), axis=1).tolist() == [one == "=1+1" for one in odd.polars()["label"]]
