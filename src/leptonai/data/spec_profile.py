"""What you ask a profile of, and what it tells."""

from typing import Any

from pydantic import Field

from leptonai.core.nouns import Frozen


class Profile(Frozen):
    """Look at every row of a dataset version, or of a part of one.

    `against`: an older version, to tell drift from it. `test`: the rows that a model of this data will be tested on; which of them
    are here too? Default, for a whole version: the test part of its split in 0.8 : 0.2. What is costly is told from `sample` rows.
    """

    data: str
    against: str | None = None
    test: str | None = None
    sample: int = Field(default=50_000, ge=100, le=1_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)


class Alert(Frozen):
    """One thing to look at before a model learns from it."""

    about: str  # "leakage", "duplicates", "missing", "outliers", "balance", "drift", "constant", "correlation"
    column: str = ""
    text: str


class ProfileReport(Frozen):
    """What is in the rows. Tables are lists of JSON data; shares are from 0 to 1."""

    data: str
    rows: int
    sample: int  # rows that correlations, drift and the power of single columns are told from
    target: str | None
    alerts: tuple[Alert, ...]
    columns: tuple[dict[str, Any], ...]  # name, type, missing, stats, histogram (edges, counts) or counts, outliers
    correlations: dict[str, dict[str, Any]]  # pearson, spearman, cramers_v: names, values
    duplicates: dict[str, Any]  # rows, share, contradictions, near (by column of images)
    balance: dict[str, Any]  # of a target of classes: counts, ratio
    leakage: dict[str, Any]  # splits: between, rows, of; target: the power of each column alone
    drift: dict[str, Any]  # against, columns: name, psi, test, statistic, p, verdict
    notes: tuple[str, ...] = ()
