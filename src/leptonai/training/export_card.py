"""The model card: Markdown under a YAML header, in the form that Hugging Face gave it.

https://huggingface.co/docs/hub/model-cards
"""

import json
from collections.abc import Mapping
from typing import Any

from leptonai.core.nouns import Dataset
from leptonai.core.signature import Signature, TensorSpec
from leptonai.training.spec import Fitted


def card(
    name: str,
    fitted: Fitted,
    signature: Signature,
    dataset: Dataset,
    report: Mapping[str, Any],
    lineage: Mapping[str, Any],
) -> str:
    """Return the text of ``card.md``. Names of columns are quoted as JSON, whatever is in them."""
    return "\n".join(
        [
            *_header(name, fitted, dataset, report),
            f"# {name}",
            "",
            f"A {signature.task} model ({fitted.framework}, {fitted.parameters:,} parameters) that predicts "
            f"{', '.join(map(_code, fitted.encoding.targets))}.",
            "",
            "## Data",
            "",
            f"Trained on `{fitted.data}`, a part or all of {dataset.rows:,} rows; digest of the dataset: `{dataset.digest}`.",
            "",
            *_table(("Input", "Datatype", "Shape", "Meaning"), [_input(spec) for spec in signature.inputs]),
            "",
            *_table(("Output", "Datatype", "Shape"), [_input(spec)[:3] for spec in signature.outputs]),
            "",
            "## Metrics",
            "",
            *_table(("Metric", "Value"), [(f"`{key}`", f"{value:.6g}") for key, value in report["metrics"].items()]),
            "",
            _measured(report),
            "",
            "## How to call it",
            "",
            "```bash",
            f"curl -s $URL/services/{name}/predict -H 'Content-Type: application/json' \\",
            f"  -d '{_shell(json.dumps({'rows': [_row(signature)]}))}'",
            "```",
            "",
            "## Where it came from",
            "",
            f"Run `{lineage['run']}`, seed {fitted.seed}, {fitted.epochs} epochs; export: {_route(lineage['export'])}.",
            "",
            *_began(fitted.pretrained),
        ]
    )


def _header(name: str, fitted: Fitted, dataset: Dataset, report: Mapping[str, Any]) -> list[str]:
    ops = {feature.op for feature in fitted.encoding.features}
    kind = "image" if "image" in ops else "text" if "text" in ops else "tabular"
    lines = ["---", f"model_name: {json.dumps(name)}", f"library_name: {fitted.framework}"]
    lines += [
        f"pipeline_tag: {kind}-{fitted.encoding.task}",
        "tags:",
        "- leptonai",
        f"datasets:\n- {json.dumps(dataset.name)}",
    ]
    if report["metrics"]:
        lines += ["metrics:", *(f"- {json.dumps(key)}" for key in report["metrics"])]
    return [*lines, "---", ""]


def _measured(report: Mapping[str, Any]) -> str:
    if report["evaluation"]:
        return f"Measured on `{report['evaluation']['data']}`."
    return f"From the last of {report['epochs']} epochs of training, unless they were given."


def _began(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    digests = [f"{_code(name)} `{digest}`" for name, digest in found["sha256"].items() if name.endswith(".safetensors")]
    new = ", ".join(map(_code, found["new"][:8])) or "none"
    return [
        f"Began with the weights of {_code(found['model'] or found['source'])}: {found['taken']} of {found['tensors']} were taken over; "
        f"new were {new}. SHA-256 of the weights: {', '.join(digests)}.",
        "",
    ]


def _route(export: Mapping[str, Any]) -> str:
    if export["route"] is None:
        return "none, it is served by its framework"
    return (
        f"{export['route']}, largest difference to the framework {export['difference']:.2g} over {export['rows']} rows"
    )


def _input(spec: TensorSpec) -> tuple[str, ...]:
    return _code(spec.name), spec.datatype, str(list(spec.shape)), spec.type.value if spec.type else ""


def _code(text: str) -> str:
    return f"`{json.dumps(text, ensure_ascii=False)[1:-1].replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


def _row(signature: Signature) -> dict[str, Any]:
    return {spec.name: _example(spec) for spec in signature.inputs}


def _example(spec: TensorSpec) -> Any:
    if len(spec.shape) > 1:
        return "…"
    if spec.categories:
        return spec.categories[0]
    return {"BOOL": True, "BYTES": "…", "INT64": 0}.get(spec.datatype, 0.0)


def _shell(text: str) -> str:
    return text.replace("'", "'\\''")
