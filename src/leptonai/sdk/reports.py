"""Reports: of an evaluation that is asked for, and of those that were made before."""

from typing import TYPE_CHECKING, Any

from leptonai.core.errors import Invalid
from leptonai.evaluation.spec import Evaluate
from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk import runs
from leptonai.sdk.results import Report
from leptonai.sdk.runs import Run
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from leptonai.sdk.client import Client
    from leptonai.sdk.datasets import Dataset


def evaluate(via: "Client", asked: dict[str, Any], data: "Dataset | str", show_progress: bool | None = None) -> Report:
    """Start an evaluation, follow it to its end, and return its report."""
    from leptonai.sdk.models import reference

    spec = sent(check(Evaluate, {**asked, "data": reference(data, "data")}, "evaluate"))
    record = runs.submit(via.http, "evaluate", spec)
    record = runs.follow(via.http, record.id, title="evaluate", show_progress=show_progress)
    return Report(ReportRecord.model_validate(record.result), Run(record, via))


def report_of(run: Run) -> Report:
    """Return what an evaluation Run found. Raises `Invalid` for any other Run, or one that has not succeeded."""
    record = run.refresh().record
    if record.stage not in ("evaluate", "cross_validate") or record.result is None:
        raise Invalid(
            f"run {record.id} is of stage {record.stage} and {record.state}: an evaluate Run that succeeded has a report"
        )
    return Report(ReportRecord.model_validate(record.result), run)
