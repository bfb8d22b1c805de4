"""The result file: what is there of earlier runs, and what a run of some products or rows adds."""

import json
from collections.abc import Mapping
from typing import Any

from _common import ROOT

FILE = ROOT / "benchmarks" / "results" / "robustness.json"

Cells = Mapping[str, Mapping[str, Any]]  # by product, by row


def read() -> dict[str, Any]:
    """Return the figures of the file; empty when there is none."""
    return dict(json.loads(FILE.read_text())["figures"]) if FILE.exists() else {}


def merged(before: Cells, seen: Cells) -> dict[str, dict[str, Any]]:
    """Return the cells of both, the newer ones where both have any; rows in their order."""
    found = {name: {**before.get(name, {}), **seen.get(name, {})} for name in {**before, **seen}}
    return {name: dict(sorted(cells.items(), key=lambda pair: int(pair[0]))) for name, cells in found.items()}


def markdown(table: Cells, targets: Cells) -> str:
    """Return the table as the documentation shows it: a section for each row."""
    lines = []
    for row, about in targets.items():
        lines += [
            f"### {row}. {about['test'][0].upper()}{about['test'][1:]}",
            "",
            f"Target: {about['target']}.",
            "",
            "| | | |",
            "|---|---|---|",
        ]
        for name, cells in table.items():
            if row in cells:
                said = cells[row]["said"].replace("|", "\\|").replace("<", "&lt;")
                lines.append(f"| {name} | {cells[row]['verdict']} | {said} |")
        lines.append("")
    return "\n".join(lines)
