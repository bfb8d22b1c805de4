"""What the bodies of requests say, for each way to ask: the inputs of the model, and how its outputs are to be written."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import FeatureType, TensorSpec
from leptonai.serving.plane import audio, images, v2
from leptonai.serving.plane import body as json_body
from leptonai.serving.plane.call import Call
from leptonai.serving.plane.outputs import Part
from leptonai.serving.plane.problems import Refused
from leptonai.serving.plane.replica import Replica
from leptonai.serving.plane.router import Route
from leptonai.serving.plane.values import say
from leptonai.serving.plane.writer import Written

BUSY_BODY = 256 * 2**10  # a larger body is read in a thread, so that it holds up nobody else

_OUR_MEDIA = (b"", b"application/json", b"application/x-www-form-urlencoded", b"text/plain")  # what curl sends untold
_MILLISECONDS = re.compile(rb"[1-9]\d{0,8}")
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class Read:
    """A request that was understood. `write`: of the outputs; `seconds`: the deadline that the caller set."""

    __slots__ = ("inputs", "seconds", "write")

    def __init__(self, inputs: Mapping[str, Any], write: Callable[[Part], Written], seconds: float | None):
        self.inputs = inputs
        self.write = write
        self.seconds = seconds


Reader = Callable[[Call, Route], Read]


def infer(call: Call, route: Route) -> Read:
    """The Open Inference Protocol, with tensors in JSON or as raw bytes."""
    quick, signature, data = route.replica.quick, route.replica.model.signature, call.body
    length = _json_length(call)
    if length is None:
        asked = quick.request(data) if len(data) <= BUSY_BODY else None
        if asked is None:
            asked = v2.request(_loaded(data), signature)
    else:

        def strict() -> v2.Request:
            return v2.request(_loaded(data[:length]), signature, memoryview(data)[length:])

        asked = quick.raw(data, length, strict) if len(data) <= BUSY_BODY else strict()
    seconds = asked.seconds if asked.seconds is not None else _seconds(call)
    return Read(asked.inputs, partial(route.writer.write, asked), seconds)


def rows(call: Call, route: Route) -> Read:
    """Rows as people have them, ``{"rows": [{"column": value}]}``, or one image or sound file."""
    replica = route.replica
    media = _media(call)
    if media.startswith((b"image/", b"audio/")) or media == b"application/octet-stream":
        return Read(_from_file(call, media, replica), partial(_friendly, replica), _seconds(call))
    if media not in _OUR_MEDIA:
        right = (
            "send rows as application/json, an image file as image/png, image/jpeg …, or sound as audio/wav, audio/flac"
        )
        raise Refused(415, right)
    asked = _loaded(call.body)
    if type(asked) is not dict or "rows" not in asked:
        raise Invalid('the body must be an object such as {"rows": [{"column": value}]}')
    _only(asked, ("rows",))
    return Read(replica.columns.inputs(asked["rows"]), partial(_friendly, replica), _seconds(call))


def is_long(call: Call, reader: Reader) -> bool:
    """Return whether a body may take long to read: a small file, too, may hold a large image or much sound."""
    return len(call.body) > BUSY_BODY or (reader is rows and call.body[:1] not in (b"{", b"[", b" ", b"\n", b""))


def _from_file(call: Call, media: bytes, replica: Replica) -> dict[str, Any]:
    """Return the one input of a model that takes files of a kind."""
    specs = replica.model.signature.inputs
    kind = specs[0].type if len(specs) == 1 else None
    if kind not in (FeatureType.IMAGE, FeatureType.AUDIO):
        what = "a sound" if media.startswith(b"audio/") else "an image"
        columns = ", ".join(spec.name for spec in specs[:8])
        raise Refused(415, f'this model takes rows, not {what}: send {{"rows": [{{…}}]}} with the columns {columns}')
    if media.startswith(b"audio/" if kind is FeatureType.IMAGE else b"image/"):
        raise Refused(
            415,
            f"this model takes {'an image' if kind is FeatureType.IMAGE else 'sound'}, not {media.decode('latin-1')[:80]}",
        )
    decode = images.decode if kind is FeatureType.IMAGE else audio.decode
    return {specs[0].name: decode(call.body, specs[0])[None]}


def only_ready(call: Call) -> bool:
    """Return whether Triton's index of the repository is asked for what is ready only: ``{"ready": true}``."""
    asked = _loaded(call.body) if call.body.strip() else {}
    if type(asked) is not dict or type(asked.get("ready", False)) is not bool:
        raise Invalid('the body must be an object such as {"ready": true}, or empty')
    _only(asked, ("ready",))
    return bool(asked.get("ready", False))


def instances(call: Call, route: Route) -> Read:
    """KServe's V1: ``{"instances": […]}``, each an object, or the values in the order of the columns."""
    asked = _loaded(call.body)
    if type(asked) is not dict or "instances" not in asked:
        raise Invalid('the body must be an object such as {"instances": [[1.0, 2.0]]}')
    _only(asked, ("instances",))
    return _predictions(call, route, _as_rows(asked["instances"], route.replica.model.signature.inputs, "instances"))


def invocations(call: Call, route: Route) -> Read:
    """MLflow's and SageMaker's ``/invocations``: a data frame in one of its JSON forms, ``instances``, ``inputs``, or CSV."""
    specs = route.replica.model.signature.inputs
    media = _media(call)
    if media == b"text/csv":
        return _predictions(call, route, _csv_rows(call.body, specs))
    if media not in _OUR_MEDIA:
        raise Refused(415, "send application/json or text/csv")
    asked = _loaded(call.body)
    forms = ("dataframe_split", "dataframe_records", "instances", "inputs")
    given = [form for form in forms if type(asked) is dict and form in asked]
    if len(given) != 1:
        raise Invalid(f"the body must be an object with one of {', '.join(forms)}", errors=[FieldError("body", "one")])
    if asked.get("params"):
        raise Invalid("'params' is not supported here: leave it out", errors=[FieldError("params", "leave it out")])
    _only(asked, (given[0], "params"))
    (form,) = given
    found = asked[form]
    if form == "dataframe_split":
        made = _split_frame(found)
    elif form == "inputs" and type(found) is dict:
        made = _from_columns(found)
    else:
        made = _as_rows(found, specs, form)
    return _predictions(call, route, made)


# ------------------------------------------------------------------------------------------------- their rows


def _predictions(call: Call, route: Route, made: list[Any]) -> Read:
    replica = route.replica
    return Read(replica.columns.inputs(made), partial(_plain, replica), _seconds(call))


def _as_rows(given: Any, specs: Sequence[TensorSpec], field: str) -> list[Any]:
    """Return rows by column name. A model with one input takes its bare values."""
    if type(given) is not list or not given:
        raise Invalid(f"{field!r} must be a list of at least one row", errors=[FieldError(field, "a list of rows")])
    names = [spec.name for spec in specs]
    made = []
    for number, row in enumerate(given, 1):
        if type(row) is dict:
            made.append(row)
        elif len(names) == 1:
            made.append({names[0]: row})
        elif type(row) is list and len(row) == len(names):
            made.append(dict(zip(names, row, strict=True)))
        else:
            what = f"{len(row)} values" if type(row) is list else say(row)
            right = f"an object, or a list of {len(names)} values in the order {', '.join(names)[:300]}"
            raise Invalid(f"row {number} must be {right}, not {what}", errors=[FieldError(f"row {number}", right)])
    return made


def _split_frame(given: Any) -> list[Any]:
    right = '{"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}'
    if type(given) is not dict or type(given.get("columns")) is not list or type(given.get("data")) is not list:
        raise Invalid(f"'dataframe_split' must be as {right}", errors=[FieldError("dataframe_split", right)])
    _only(given, ("columns", "data", "index"))
    columns = given["columns"]
    if not all(type(name) is str for name in columns) or len(set(columns)) != len(columns):
        raise Invalid("'columns' must be different names", errors=[FieldError("dataframe_split.columns", "names")])
    for number, row in enumerate(given["data"], 1):
        if type(row) is not list or len(row) != len(columns):
            raise Invalid(
                f"row {number} of 'data' must be a list of {len(columns)} values",
                errors=[FieldError(f"row {number}", f"{len(columns)} values")],
            )
    return [dict(zip(columns, row, strict=True)) for row in given["data"]]


def _from_columns(given: Mapping[str, Any]) -> list[Any]:
    sizes = {len(values) if type(values) is list else -1 for values in given.values()}
    if len(sizes) != 1 or sizes <= {-1, 0}:
        right = "lists of one length, one for each column"
        raise Invalid(f"'inputs' must hold {right}", errors=[FieldError("inputs", right)])
    return [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]


def _csv_rows(data: bytes, specs: Sequence[TensorSpec]) -> list[Any]:
    try:
        lines = list(csv.reader(data.decode("utf-8-sig").splitlines(), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(400, f"the body is not CSV: {error}") from None
    if len(lines) < 2:
        raise Invalid("the CSV needs a line of column names and at least one row")
    header, *records = lines
    kinds = {spec.name: spec for spec in specs}
    if len(set(header)) != len(header):
        raise Invalid("the CSV names one column twice", errors=[FieldError("header", "different names")])
    made = []
    for number, record in enumerate(records, 1):
        if len(record) != len(header):
            raise Invalid(
                f"row {number} has {len(record)} fields where the header has {len(header)}",
                errors=[FieldError(f"row {number}", f"{len(header)} fields")],
            )
        made.append(
            {
                name: _from_text(text, kinds[name], number) if name in kinds else text
                for name, text in zip(header, record, strict=True)
            }
        )
    return made


def _from_text(text: str, spec: TensorSpec, number: int) -> Any:
    if text == "":
        return None
    try:
        if spec.datatype == "BOOL":
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if spec.datatype in ("FP32", "FP64"):
            return float(text) if spec.type is not FeatureType.DATETIME else text
        return text if spec.datatype == "BYTES" else int(text)
    except (ValueError, KeyError):
        where = f"row {number}, column {spec.name!r}"
        right = "true or false" if spec.datatype == "BOOL" else "a number"
        raise Invalid(
            f"{where}: {say(text)} is given where {right} is needed", errors=[FieldError(where, right)]
        ) from None


# ------------------------------------------------------------------------------------------------- their words


def _friendly(replica: Replica, outputs: Mapping[str, Any]) -> Written:
    found = replica.answers.predictions(outputs)
    said = {"predictions": found, "model": replica.model.name, "version": replica.model.version}
    return Written(orjson.dumps(said, option=_NUMPY))


def _plain(replica: Replica, outputs: Mapping[str, Any]) -> Written:
    """Return bare values: labels or numbers, as these protocols have them."""
    found = replica.answers.predictions(outputs)
    custom = replica.model.signature.task == "custom"
    values = found if custom else [one["label"] if "label" in one else one["prediction"] for one in found]
    return Written(orjson.dumps({"predictions": values}, option=_NUMPY))


def _only(given: Mapping[str, Any], names: Sequence[str]) -> None:
    if extra := [repr(name[:80]) for name in given if name not in names]:
        raise Invalid(f"the body has fields that are not known: {', '.join(extra)[:300]}; it holds {names[0]!r} only")


def _media(call: Call) -> bytes:
    return call.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _loaded(data: bytes) -> Any:
    try:
        return json_body.load(data)
    except Invalid as error:
        raise Refused(400, error.message) from None


def _json_length(call: Call) -> int | None:
    """Return how long the JSON is in a request of the binary extension."""
    given = call.headers.get(b"inference-header-content-length")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18 or int(given) > len(call.body):
        raise Refused(400, "Inference-Header-Content-Length must be a number of bytes, at most those of the body")
    return int(given)


def _seconds(call: Call) -> float | None:
    given = call.headers.get(b"x-request-timeout-ms")
    if given is None:
        return None
    if not _MILLISECONDS.fullmatch(given):
        raise Refused(400, "X-Request-Timeout-Ms must be a whole number of milliseconds")
    return int(given) / 1000
