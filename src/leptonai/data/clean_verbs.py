"""What the server answers at once about cleaning."""

from collections.abc import Mapping
from typing import Any

from leptonai.core import personal
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import Changes, Desk, Plan
from leptonai.data.cleaning.plan import plan
from leptonai.data.exactly import exact
from leptonai.data.spec_clean import Clean
from leptonai.data.verbs import settle_import


def prepare_clean(spec: Clean, desk: Desk) -> Plan:
    """Make the version exact, and plan the steps: what cannot work is refused before a row is read. Raises `Invalid`."""
    data, ref = exact(spec.data, desk)
    if DatasetRef.parse(ref).splits:
        raise Invalid(
            f"data: {spec.data} is a part, and a whole version is cleaned: name {data.name}@v{data.version}; learn_from may name "
            "the part that steps learn from",
            errors=[FieldError("data", "a whole version")],
        )
    found = {"data": ref, "name": spec.name or data.name}  # the name says whose keyed digests the Run may make
    if spec.learn_from is not None:
        other, part = exact(spec.learn_from, desk)
        if other.id != data.id:
            raise Invalid(
                f"learn_from: {spec.learn_from} is not a part of {data.name}@v{data.version}, which is to be cleaned",
                errors=[FieldError("learn_from", f"a part of {ref}")],
            )
        found["learn_from"] = part
    planned = plan(spec.steps, data.columns, data.target)
    if spec.learn_from is not None:
        _check_learning([one.step for one in planned])
    opens = personal.opens(data, desk)
    return Plan(spec.model_copy(update=found).model_dump(mode="json"), opens, "data", f"clean-{data.name}"[:100])


def _check_learning(steps: list[Any]) -> None:
    """Raise `Invalid` where a step would learn from a part of rows that are in no part any more."""
    resampled = False
    for step in steps:
        learns = step.step in ("outliers", "cap_categories") or getattr(step, "by", "") in (
            "mean",
            "median",
            "most_frequent",
        )
        if resampled and learns:
            raise Invalid(
                f"learn_from: after resample no row belongs to a part: let {step.step} come before it",
                errors=[FieldError("learn_from", "no resample before a step that learns")],
            )
        if step.step == "k_anonymity":
            raise Invalid(
                "learn_from: k_anonymity counts all rows, and not those of a part: clean in two goes",
                errors=[FieldError("learn_from", "no k_anonymity")],
            )
        resampled = resampled or step.step == "resample"


def settle_clean(run: Run, result: Mapping[str, Any], desk: Desk) -> Changes:
    """Add the version that cleaning made; after a dry run nothing."""
    return Changes() if result["dry_run"] else settle_import(run, result, desk)
