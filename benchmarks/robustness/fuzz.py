"""Row 18: Schemathesis on each OpenAPI description that a product publishes."""

import json
import os
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from _common import peer_python

from robustness.exposure import schema
from robustness.product import Product
from robustness.report import Found, nothing

_SERVER_ERROR, _SCHEMA = ("not_a_server_error",), (
    "status_code_conformance", "content_type_conformance", "response_headers_conformance", "response_schema_conformance",
)  # fmt: skip

_FEWEST = 20  # requests, below which nothing is said


def fuzz(product: Product, seconds: float) -> Found:
    """Row 18, with a key where one is needed."""
    python = peer_python("robustness")
    if python is None:
        return nothing("Schemathesis is not installed, see scripts/bench")
    base, headers = product.base, dict(product.good.headers)
    headers = {name: value for name, value in headers.items() if name.lower() == "authorization"}
    if product.name == "ours":
        base, token = product.api  # type: ignore[attr-defined]
        headers = {"Authorization": f"Bearer {token}"}
    path = schema(base)
    if path is None:
        return nothing("publishes no OpenAPI description")
    failures, cases, said = _run(python, base, path, headers, seconds)
    alive = product.works() is not None
    if not alive:
        product.revive()
    if cases < _FEWEST and alive:
        return Found(None, f"only {cases} requests were made in the time", {"cases": cases, "what": said})
    errors = sum(count for name, count in failures.items() if name in _SERVER_ERROR)
    wrong = sum(count for name, count in failures.items() if name in _SCHEMA)
    short = f"{cases} requests: {errors} 5xx, {wrong} schema violations" + ("" if alive else "; gone")
    figures = {"cases": cases, "distinct_failures": dict(failures), "alive": alive, "what": said}
    return Found(alive and not errors and not wrong and cases > 0, short, figures)


def _run(
    python: str, base: str, path: str, headers: dict[str, str], seconds: float
) -> tuple[Counter[str], int, list[str]]:
    with tempfile.TemporaryDirectory(prefix="leptonai-bench-") as folder:
        report = Path(folder) / "events.ndjson"
        command = [
            str(Path(python).parent / "schemathesis"), "run", base + path, "--max-time", str(round(seconds)),
            "--seed", "1", "--checks", ",".join((*_SERVER_ERROR, *_SCHEMA)), "--report", "ndjson", "--report-ndjson-path", str(report),
            "--phases", "coverage,fuzzing", "--no-shrink", "--continue-on-failure", "--request-timeout", "10", "--warnings", "off",
            "--suppress-health-check", "all",
        ]  # fmt: skip
        for name, value in headers.items():
            command += ["--header", f"{name}: {value}"]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=seconds + 60,
                env={**os.environ, "NO_COLOR": "1"},
            )
            text = done.stdout + done.stderr
        except subprocess.TimeoutExpired as error:
            text = str(error.stdout or b"")
        return _read(report, text)


def _read(report: Path, text: str) -> tuple[Counter[str], int, list[str]]:
    """Return distinct failures by check, and how many requests there were."""
    kinds: Counter[str] = Counter()
    said: set[str] = set()
    cases = 0
    for line in report.read_text().splitlines() if report.exists() else ():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        answers = recorder.get("interactions", {})
        cases += len(answers)
        for id, checks in recorder.get("checks", {}).items():
            status = ((answers.get(id) or {}).get("response") or {}).get("status_code")
            for check in checks:
                one = f"{check['name']}: {recorder['label']}: {status}"
                if check["status"] == "failure" and one not in said:
                    said.add(one)
                    kinds[check["name"]] += 1
    return kinds, cases, sorted(said)[:40] if cases else text.strip().splitlines()[-8:]
