"""Why a version says what it says of single rows: asked of a service, or of the version itself."""

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leptonai.core.nouns import Model as ModelRecord
from leptonai.evaluation.spec import Explain
from leptonai.sdk import rows, runs
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from leptonai.sdk.client import Client


def explain(via: "Client", what: Mapping[str, str], model: ModelRecord, data: object, asked: Mapping[str, Any]) -> Any:
    """Have a version explained, and return one explanation for each row, or one for one row. `what`: its reference, or a service.

    Each has ``of`` (the class that is said; None: the answer is a value) and ``score``; of a table ``base`` and ``shares``, which add up
    to the score: column, value, share, the largest first; of a picture or text ``where`` or ``words``.
    """
    one = isinstance(data, Mapping)
    if (found := rows.file(data)) is not None:
        one, data = True, {model.signature.inputs[0].name: base64.b64encode(found[0]).decode()}
    given = _known(data, {tensor.name for tensor in model.signature.inputs})
    blob = via.http.upload(json.dumps(rows.rows(given)).encode())
    spec = sent(check(Explain, {**what, "rows": blob, **asked}, "explain"))
    record = runs.follow(via.http, runs.submit(via.http, "explain", spec).id, title="explain")
    answers = json.loads(via.http.download((record.result or {})["details"]))["rows"]
    return answers[0] if one else answers


def _known(data: object, names: set[str]) -> object:
    """Leave out of rows of a dataset what the model does not take, such as the target."""
    from leptonai.sdk.datasets import Rows

    if not isinstance(data, Rows):
        return data
    return [{name: value for name, value in row.items() if name in names} for row in data]
