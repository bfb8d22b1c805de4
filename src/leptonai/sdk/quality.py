"""What a dataset can be asked about its rows, and how they are mended: the half of `Dataset` that goes through every row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from leptonai.core.nouns import Dataset as DatasetRecord
from leptonai.sdk import checks, cleaning, diffs, privacy, profiles

if TYPE_CHECKING:
    from leptonai.sdk.datasets import Dataset


class Quality:
    """A dataset version, as far as its rows are looked at and mended."""

    _client: Any
    record: DatasetRecord

    @property
    def ref(self) -> str:
        """Its exact reference."""
        raise NotImplementedError

    @overload
    def clean(
        self,
        *steps: cleaning.Step,
        name: str | None = None,
        learn_from: "Dataset | None" = None,
        dry_run: Literal[False] = False,
    ) -> "Dataset": ...

    @overload
    def clean(
        self,
        *steps: cleaning.Step,
        name: str | None = None,
        learn_from: "Dataset | None" = None,
        dry_run: Literal[True],
    ) -> cleaning.Cleaned: ...

    def clean(
        self, *steps: cleaning.Step, name: str | None = None, learn_from: "Dataset | None" = None, dry_run: bool = False
    ) -> "Dataset | cleaning.Cleaned":
        """Return a new version, made by steps such as ``"impute:age=median"``; this one stays. Raises `Invalid`.

        A step is such a word, a dict, or a value of `leptonai.data.spec_clean`. With `learn_from`, a part of this version, means
        and bounds are learnt from its rows only. A dry run makes nothing, and returns what each step would do.
        """
        from leptonai.sdk.datasets import made_by

        part = learn_from.ref if learn_from is not None else None
        spec = cleaning.spec_of(self.ref, steps, name=name, learn_from=part, dry_run=dry_run or None)
        record, report = cleaning.run(self._client, spec)
        return report if dry_run else made_by(self._client, record)

    def profile(
        self,
        *,
        against: "Dataset | str | None" = None,
        test: "Dataset | str | None" = None,
        sample: int | None = None,
        seed: int | None = None,
    ) -> profiles.Profiled:
        """Return what is in its rows: distributions, outliers, duplicates, correlations, class balance, leakage, drift.

        `against` is an older version, to tell drift from it; `test` the rows that models of it are tested on, to tell which of them
        are in it too. What is costly is told from `sample` rows (50,000), which `seed` chooses.
        """
        return profiles.run(self._client, self.ref, against=_ref(against), test=_ref(test), sample=sample, seed=seed)

    @property
    def rules(self) -> list[dict[str, Any]]:
        """The rules that it was imported with."""
        return list(self.record.source.get("checks", []))

    def check(self, rules: Sequence[checks.Rule] | None = None) -> checks.Checked:
        """Return whether its rows keep rules such as ``["range:age=0..120", "unique:id"]``; default: those it was imported with.

        A rule is such a word, a dict, or a value of `leptonai.data.spec_check`. The answer is true where all are kept, and names
        the first rows that break one; `hold()` raises `Invalid` then.
        """
        return checks.run(self._client, self.ref, self.rules if rules is None else rules)

    def diff(
        self, other: "Dataset | str", *, key: str | Sequence[str] = (), examples: int | None = None
    ) -> diffs.Difference:
        """Return how another version differs from this one: columns, statistics, rows that were added, removed or changed.

        `key` names the columns by which a row is the same row in both; without, a changed row is one that was removed and one that
        was added. `examples` rows of each kind are shown (10).
        """
        names = (key,) if isinstance(key, str) else tuple(key)
        return diffs.run(self._client, self.ref, str(_ref(other)), key=names or None, examples=examples)

    def find_pii(self, *, rows: int | None = None, country: str | None = None) -> privacy.FoundPii:
        """Look for personal data: e-mail, telephone, card, bank and identity numbers, names, addresses, dates of birth.

        The first `rows` (20,000) are looked at; `country` (``"US"``) is whose telephone numbers have no country code. Examples are
        masked. Columns that are marked personal already are not looked at.
        """
        return privacy.run(self._client, self.ref, rows=rows, country=country)


def _ref(data: "Dataset | str | None") -> str | None:
    return data if data is None or isinstance(data, str) else data.ref
