"""What a Run does that looks for personal data: the first rows of each column that is not personal already."""

from typing import Any

from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle
from leptonai.data import detect
from leptonai.data.pieces import Version
from leptonai.data.spec_private import FindPii, PiiReport

_LOOKED_AT = (FeatureType.TEXT, FeatureType.CATEGORY, FeatureType.INTEGER, FeatureType.DATETIME)


def find_pii(spec: FindPii, handle: Handle) -> dict[str, Any]:
    """Return a `PiiReport` as JSON data; examples in it are masked."""
    version = Version(spec.data, handle)
    columns = [column for column in version.columns if column.type in _LOOKED_AT]
    values: dict[str, list[Any]] = {column.name: [] for column in columns}
    rows = 0
    if columns:
        for table, _ in version.pieces([column.name for column in columns]):
            table = table.slice(0, spec.rows - rows)
            for name, held in values.items():
                held += table[name].to_pylist()
            rows += table.num_rows
            if rows >= spec.rows:
                break
    found = []
    for done, column in enumerate(columns):
        dates = column.type is FeatureType.DATETIME
        found += detect.find(column.name, values.pop(column.name), dates=dates, country=spec.country)
        handle.progress(done + 1, len(columns), "columns")
    report = PiiReport(data=spec.data, rows=rows, found=tuple(found), marked=version.hidden)
    return report.model_dump(mode="json")
