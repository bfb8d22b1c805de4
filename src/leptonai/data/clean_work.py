"""What a clean Run does: rows of one version pass by the steps and become the next version; a dry run only tells."""

import json
from typing import Any

from leptonai.core.errors import Invalid
from leptonai.core.refs import DatasetRef
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle
from leptonai.data.cleaning.flow import Flow
from leptonai.data.cleaning.plan import Planned, plan
from leptonai.data.personal import redacted
from leptonai.data.pieces import Version
from leptonai.data.spec_clean import Clean, CleanReport, StepReport
from leptonai.data.version import VersionWriter


def clean(spec: Clean, handle: Handle) -> dict[str, Any]:
    """Apply the steps; return what `data.verbs.settle_clean` needs, with the blob of the report. Raises `Invalid`."""
    version = Version(spec.data, handle, personal=True)
    personal = [column.name for column in version.columns if column.pii]
    try:
        return _cleaned(spec, version, handle)
    except Invalid as error:
        raise redacted(error, personal) from None


def _cleaned(spec: Clean, version: Version, handle: Handle) -> dict[str, Any]:
    planned = plan(spec.steps, version.columns, version.record.target)
    hashes = any(one.step.step == "hash" for one in planned)
    name = spec.name or DatasetRef.parse(spec.data).name
    flow = Flow(planned, version, handle.progress, handle.pepper(name) if hashes else b"")
    flow.learn(Version(spec.learn_from, handle).chosen if spec.learn_from is not None else None)
    rows = 0
    made: dict[str, Any] = {}
    if spec.dry_run:
        for table in flow.tables():
            rows += table.num_rows
    else:
        made = _written(spec, flow, version, planned[-1], handle)
        rows = made["rows"]
    report = CleanReport(
        data=spec.data,
        rows_before=version.rows,
        rows_after=rows,
        columns=tuple(planned[-1].after),
        steps=flow.reports(),
    )
    store = handle.pii if any(column.pii for column in version.columns) else handle.blobs
    stored = store.write([report.model_dump_json().encode()])  # sealed: examples are values of the dataset
    return {**made, "report": stored.id, "rows_before": version.rows, "rows_after": rows, "dry_run": spec.dry_run}


def _written(spec: Clean, flow: Flow, version: Version, last: Planned, handle: Handle) -> dict[str, Any]:
    types: dict[str, FeatureType] = {name: column.type for name, column in last.after.items()}
    name = spec.name or DatasetRef.parse(spec.data).name
    pii = [name for name, column in last.after.items() if column.pii]
    writer = VersionWriter(
        handle, target=last.target or "", types=types, shard_rows=version.shard_rows, pii=pii, name=name,
        unlabelled=any(column.name == version.record.target and column.nullable for column in version.columns),
    )  # fmt: skip
    try:
        for table in flow.tables():
            writer.add(table, spec.data, writer.rows)
        if not writer.rows:
            raise Invalid(f"the steps leave no row of {spec.data}: ask for a dry run, which tells what each does")
        return {**writer.finish(_lineage(spec, flow, version)), "name": name}
    finally:
        writer.close()


def _learnt(report: StepReport, version: Version) -> dict[str, Any]:
    """Return what a step learnt, where it is short; nothing where a personal column may be told of."""
    personal = any(column.pii for column in version.columns)
    short = report.learnt and not personal and len(json.dumps(report.learnt)) < 10_000
    return {"learnt": report.learnt} if short else {}


def _lineage(spec: Clean, flow: Flow, version: Version) -> dict[str, Any]:
    """Return where the new version comes from: the old one, and each step with what it learnt."""
    steps = [
        {
            **report.step,
            **_learnt(report, version),
        }
        for report in flow.reports()
    ]
    learnt = {"learn_from": spec.learn_from} if spec.learn_from is not None else {}
    return {"dataset": spec.data, "digest": version.record.digest, "steps": steps, **learnt}
