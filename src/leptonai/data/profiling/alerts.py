"""What in a profile asks for a second look."""

from collections.abc import Iterator, Mapping
from typing import Any

from leptonai.data.spec_clean import BLANKS

_TELLS = 0.95  # power of one column from which it is taken to know the target
_MISSING = 0.05
_TWINS = 0.98  # correlation
_UNEVEN = 10.0  # rows of the largest class for one of the least


def of(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the alerts, the gravest kinds first."""
    return [
        {"about": about, "column": column, "text": text}
        for part in (_leakage, _duplicates, _drift, _columns, _relations, _balance)
        for about, column, text in part(facts)
    ]


_Found = Iterator[tuple[str, str, str]]


def _leakage(facts: Mapping[str, Any]) -> _Found:
    for one in facts["leakage"]["target"]:
        if one["score"] >= _TELLS:
            yield (
                "leakage",
                one["column"],
                (
                    f"{one['column']} alone tells {facts['target']} (power {one['score']:.2f} of 1): it may have been written after "
                    "the target was known"
                ),
            )
    splits = facts["leakage"]["splits"]
    if splits.get("features"):
        yield (
            "leakage",
            "",
            (
                f"{splits['features']:,} of {splits['of']:,} test rows are among the training rows too ({splits['between']}): drop "
                "duplicates before you split"
            ),
        )


def _duplicates(facts: Mapping[str, Any]) -> _Found:
    found = facts["duplicates"]
    if found["rows"]:
        yield "duplicates", "", f"{found['rows']:,} rows ({found['share']:.1%}) are there already in an earlier row"
    if found["contradictions"]:
        yield (
            "duplicates",
            "",
            (
                f"{found['contradictions']:,} rows are like another row in all but {facts['target']}: they contradict each other"
            ),
        )
    for name, near in found.get("near", {}).items():
        if near["images"]:
            yield (
                "duplicates",
                name,
                f"{near['images']:,} of {near['looked_at']:,} images of {name} look like another one",
            )


def _drift(facts: Mapping[str, Any]) -> _Found:
    for one in facts["drift"].get("columns", []):
        if one["verdict"] != "same":
            yield (
                "drift",
                one["column"],
                f"{one['column']} has {one['verdict']} since {facts['drift']['against']} (PSI {one['psi']:.2f})",
            )


def _columns(facts: Mapping[str, Any]) -> _Found:
    for one in facts["columns"]:
        name, stats = one["name"], one["stats"]
        count, missing = stats.get("count") or facts["rows"], stats.get("missing") or 0
        if missing / max(1, count) >= _MISSING:
            yield "missing", name, f"{name} is missing in {missing:,} rows ({missing / count:.1%})"
        for value, held in _blanks(stats):
            yield (
                "missing",
                name,
                f"{name} holds {value!r} in {held:,} rows: should it mean missing, clean with blank:{name}={value}",
            )
        if stats.get("unique") == 1 and count > 1:
            yield "constant", name, f"{name} has one value in all rows: a model learns nothing from it"
        if stats.get("infinite"):
            yield "outliers", name, f"{name} is infinite in {stats['infinite']:,} rows"
        far = one.get("outliers", {}).get("count", 0)
        if far / max(1, count) >= 0.01:
            yield "outliers", name, f"{name} has {far:,} values ({far / count:.1%}) beyond 1.5 interquartile ranges"


def _blanks(stats: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for value, count in stats.get("counts") or ():
        if isinstance(value, str) and value in BLANKS and value not in ("", "-"):
            yield value, count


def _relations(facts: Mapping[str, Any]) -> _Found:
    for word, found in facts["correlations"].items():
        if word == "spearman":
            continue
        for i, one in enumerate(found["names"]):
            for j, other in enumerate(found["names"][:i]):
                value = found["values"][i][j]
                if value is not None and abs(value) >= _TWINS:
                    yield (
                        "correlation",
                        one,
                        f"{one} and {other} say nearly the same ({word.replace('_', ' ')} {value:.2f})",
                    )


def _balance(facts: Mapping[str, Any]) -> _Found:
    found = facts["balance"]
    if found and found["ratio"] >= _UNEVEN:
        most, least = found["counts"][0], found["counts"][-1]
        yield (
            "balance",
            str(facts["target"]),
            (
                f"class {most[0]!r} has {found['ratio']:.0f} rows for each row of {least[0]!r}: weigh the classes, or sample them evenly"
            ),
        )
