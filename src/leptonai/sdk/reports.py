"""Reports of evaluations that were made before."""

from leptonai.core.errors import Invalid
from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk.results import Report
from leptonai.sdk.runs import Run


def report_of(run: Run) -> Report:
    """Return what an evaluation Run found. Raises `Invalid` for any other Run, or one that has not succeeded."""
    record = run.refresh().record
    if record.stage != "evaluate" or record.result is None:
        raise Invalid(
            f"run {record.id} is of stage {record.stage} and {record.state}: an evaluate Run that succeeded has a report"
        )
    return Report(ReportRecord.model_validate(record.result), run)
