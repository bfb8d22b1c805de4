"""What the server answers at once when labels are to be written."""

from typing import Any

from leptonai.core import personal
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Dataset, Run
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import Desk, Plan
from leptonai.core.states import RunState
from leptonai.data.spec_relabel import Relabel

_SOURCES = {"auto_label": "labels", "label_errors": "report"}  # stage -> which blob of its result holds labels


def prepare_relabel(spec: Relabel, desk: Desk) -> Plan:
    """Make the version exact; check column, rows and where the labels come from. Raises `Invalid`, `NotFound`, `Denied`."""
    data: Dataset = desk.dataset(spec.data)
    if not spec.data.startswith("ds_") and DatasetRef.parse(spec.data).splits:
        raise Invalid(
            f"data: {spec.data} is a part, and labels are written into a whole version: name {data.name}@v{data.version}",
            errors=[FieldError("data", "a whole version")],
        )
    target = spec.target or data.target
    if target is None or target not in {column.name for column in data.columns}:
        raise Invalid(
            f"target: {data.name}@v{data.version} has no column {target!r} to write labels into" if target else
            f"{data.name}@v{data.version} has no target: say which column to write into, with target=…",
            errors=[FieldError("target", f"one of {', '.join(column.name for column in data.columns[:30])}")],
        )  # fmt: skip
    if spec.rows and max(spec.rows) >= data.rows:
        raise Invalid(
            f"rows: there is no row {max(spec.rows)} in {data.name}@v{data.version}, whose {data.rows} rows are numbered from 0",
            errors=[FieldError("rows", f"0 to {data.rows - 1}")],
        )
    ref = f"datasets:/{data.name}@v{data.version}"
    found: dict[str, Any] = {"data": ref, "target": target}
    opens = list(personal.opens(data, desk))
    if spec.run is not None:
        opens.append(_labels_of(spec.run, ref, target, desk))
    return Plan(
        spec.model_copy(update=found).model_dump(mode="json"), tuple(opens), "data", f"relabel-{data.name}"[:100]
    )


def _labels_of(id: str, ref: str, target: str, desk: Desk) -> str:
    run: Run = desk.get(Run, id)
    if run.stage not in _SOURCES or run.state is not RunState.SUCCEEDED or run.result is None:
        right = "an auto_label or label_errors Run that succeeded"
        raise Invalid(
            f"run: {id} is of stage {run.stage} and {run.state}; name {right}", errors=[FieldError("run", right)]
        )
    if run.spec["data"] != ref or run.result["target"] != target:
        raise Invalid(
            f"run: {id} looked at {run.result['target']!r} of {run.spec['data']}, not at {target!r} of {ref}",
            errors=[FieldError("run", f"a Run of {ref}")],
        )
    return str(run.result[_SOURCES[run.stage]])
