"""References to datasets and models as people write them.

::

    datasets:/digits            the newest version
    datasets:/digits@v2         version 2
    datasets:/digits@2026-11-01 the version that was the newest at the end of that day (UTC)
    datasets:/digits@approved   the version that holds the tag
    datasets:/digits@v2?part=train&train_size=0.8&seed=0        the rows of one part of a split; a part of a part
                                                                has several `part=…` groups, applied in order
    models:/churn/3             version 3
    models:/churn@champion      the version that holds the alias
    models:/churn               the newest version
"""

import re
from collections.abc import Sequence
from datetime import date
from typing import Literal, Self
from urllib.parse import parse_qsl, urlencode

from pydantic import Field

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import NAME_PATTERN, Frozen


def check_name(name: str, field: str = "name") -> str:
    """Return `name`, or raise `Invalid` when it is not one: names never become paths, but are shown everywhere."""
    if len(name) > 100 or not re.fullmatch(NAME_PATTERN, name):
        right = "use 1 to 100 lower-case letters, digits, '.', '_' or '-', starting and ending with a letter or digit"
        raise Invalid(f"{field} {name[:120]!r} is not a valid name: {right}", errors=[FieldError(field, right)])
    return name


class Split(Frozen):
    """One part of a seeded split. Rows are chosen by the target's classes when `stratify` holds."""

    part: Literal["train", "test"]
    train_size: float = Field(gt=0, lt=1)  # the share of the rows
    seed: int = Field(default=0, ge=0, lt=2**63)
    stratify: bool = True


def part_sizes(counts: Sequence[int], train_size: float) -> list[int]:
    """Return how many rows of each class go to the train part: exact in sum, by largest remainder, first class first.

    `counts` are the rows of each class; one class for a split that is not stratified. Neither part is left empty where
    there are two rows or more.
    """
    total = sum(counts)
    wanted = min(max(round(total * train_size), 1), total - 1) if total > 1 else total
    exact = [count * wanted / (total or 1) for count in counts]
    sizes = [int(share) for share in exact]
    by_remainder = sorted(range(len(counts)), key=lambda i: (sizes[i] - exact[i], i))
    for i in by_remainder[: wanted - sum(sizes)]:
        sizes[i] += 1
    return sizes


class DatasetRef(Frozen):
    """A dataset, a version of it, or a part of that."""

    name: str
    version: int | None = None
    on: date | None = None  # in place of a version: the day at whose end, in UTC, it was the newest
    tag: str | None = None  # in place of a version: the tag that it holds
    splits: tuple[Split, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``datasets:/name@v2?…``; the prefix may be left out. Raises `Invalid`."""
        body, _, query = text.removeprefix("datasets:/").partition("?")
        name, at, version = body.partition("@")
        check_name(name, "dataset")
        day = _day(version)
        numbered = re.fullmatch(r"v[1-9][0-9]{0,8}", version) is not None
        tag = version if at and day is None and not numbered else None
        if tag is not None and not is_tag(tag):
            right = "a version such as 'v2', a day such as '2026-11-01', or a tag such as 'approved'"
            raise Invalid(f"dataset reference {text[:200]!r}: after '@' comes {right}, not {tag[:120]!r}")
        groups: list[dict[str, str]] = []
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key == "part":
                groups.append({})
            elif not groups or key not in ("train_size", "seed", "stratify"):
                raise Invalid(f"dataset reference {text!r}: {key!r} is not known there")
            groups[-1][key] = value
        try:
            splits = tuple(Split.model_validate(group) for group in groups)
        except ValueError as error:
            raise Invalid(f"dataset reference {text!r}: the part after '?' is not a split") from error
        return cls(name=name, version=int(version[1:]) if numbered else None, on=day, tag=tag, splits=splits)

    def __str__(self) -> str:
        query = urlencode(
            [
                (key, str(value).lower() if isinstance(value, bool) else str(value))
                for split in self.splits
                for key, value in split.model_dump().items()
            ]
        )
        other = self.on if self.on is not None else self.tag
        at = f"@v{self.version}" if self.version else f"@{other}" if other is not None else ""
        return f"datasets:/{self.name}{at}{'?' + query if query else ''}"


def share_rows(one: DatasetRef, other: DatasetRef) -> bool:
    """Whether two parts of the same version have rows in common. Of other versions nothing is said: False."""
    if (one.name, one.version) != (other.name, other.version):
        return False
    for mine, theirs in zip(one.splits, other.splits, strict=False):
        if mine != theirs:
            return mine.model_copy(update={"part": theirs.part}) != theirs  # two parts of one split have none
    return True


def is_tag(text: str) -> bool:
    """Whether this can be a tag: a name that is no version number and no day."""
    looks = re.fullmatch(r"v[0-9]*|[0-9]+(-[0-9]+)*", text)  # a day that is mistyped is no tag either
    return looks is None and len(text) <= 100 and re.fullmatch(NAME_PATTERN, text) is not None


def check_tag(text: str) -> str:
    """Return a tag, or raise `Invalid` when it is none."""
    if not is_tag(text):
        right = "use 1 to 100 lower-case letters, digits, '.', '_' or '-', and nothing that reads as a version or a day"
        raise Invalid(f"tag {text[:120]!r} is not valid: {right}", errors=[FieldError("tag", right)])
    return text


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None
    except ValueError:
        return None


class ModelRef(Frozen):
    """A model version, by number or by alias; neither means the newest."""

    name: str
    version: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``models:/name/3`` or ``models:/name@alias``; the prefix may be left out. Raises `Invalid`."""
        body = text.removeprefix("models:/")
        if "@" in body:
            name, _, alias = body.partition("@")
            return cls(name=check_name(name, "model"), alias=check_name(alias, "alias"))
        name, slash, version = body.partition("/")
        if slash and not re.fullmatch(r"[1-9][0-9]{0,8}", version):
            raise Invalid(f"model reference {text!r}: after '/' comes a version number such as 3, not {version!r}")
        return cls(name=check_name(name, "model"), version=int(version) if slash else None)

    def __str__(self) -> str:
        tail = f"/{self.version}" if self.version else f"@{self.alias}" if self.alias else ""
        return f"models:/{self.name}{tail}"
