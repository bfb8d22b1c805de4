"""Loads a user's own service with requests like his own, and shows how long answers take as the load grows."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from leptonai.core.errors import FieldError, Invalid, Unavailable
from leptonai.core.nouns import Model as ModelRecord
from leptonai.core.signature import FeatureType, Signature, TensorSpec
from leptonai.sdk import load
from leptonai.sdk.load import Level

if TYPE_CHECKING:
    from leptonai.sdk.services import Service

BODIES = 16  # different requests
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)
LOCAL = ("127.0.0.1", "localhost", "::1")

_OPEN = 16  # length of an axis that may have any
_WORDS = ("a", "word", "Zürich", "2026-01-31")
_MICROSECONDS = (946_684_800_000_000, 1_893_456_000_000_000)  # the years 2000 to 2029


def made_up(signature: Signature, rows: int = 1, count: int = BODIES, seed: int = 0) -> list[bytes]:
    """Return bodies of the Open Inference Protocol with random values such as the signature leads to expect."""
    chance = random.Random(seed)  # noqa: S311  (no secret)
    return [_body([_tensor(spec, rows, chance) for spec in signature.inputs]) for _ in range(count)]


def recent(service: "Service", signature: Signature, count: int = 64) -> list[bytes]:
    """Return bodies with the last inputs of the prediction log. Raises `Invalid` where it holds none, or not all inputs."""
    frame = service.predictions().tail(count)
    names = [spec.name for spec in signature.inputs]
    lacking = [name for name in names if f"input.{name}" not in frame.columns]
    if lacking or frame.is_empty():
        why = f"no values of {', '.join(lacking[:5])}" if not frame.is_empty() else "no requests yet"
        raise Invalid(f"the prediction log of {service.name} holds {why}: leave --recent out, or give a file")
    bodies = []
    for row in frame.to_dicts():
        values = {spec.name: row[f"input.{spec.name}"] for spec in signature.inputs}
        if any(value is None for value in values.values()):
            continue
        tensors = []
        for spec in signature.inputs:
            value = values[spec.name]
            flat = list(value) if isinstance(value, list) else [value]
            tensors.append(
                {"name": spec.name, "shape": _shape(spec, 1, len(flat)), "datatype": spec.datatype, "data": flat}
            )
        bodies.append(_body(tensors))
    return bodies


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return a body of the friendly form for each row. Raises `Invalid` for none."""
    bodies = [json.dumps({"rows": [row]}).encode() for row in rows]
    if not bodies:
        raise Invalid("there is no row to send", errors=[FieldError("file", "rows")])
    return bodies


def prepared(service: "Service", bodies: Sequence[bytes], *, friendly: bool, key: str | None) -> list[bytes]:
    """Return whole requests for a service."""
    url = urlsplit(service.url)
    path = url.path if friendly else f"/v2/models/{service.name}/infer"
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    return [load.request("POST", path, url.netloc, body, headers) for body in bodies]


def address_of(service: "Service", *, remote: bool) -> tuple[str, int]:
    """Return where a service is loaded. Raises `Invalid` for another machine, unless that is meant."""
    url = urlsplit(service.url)
    host = url.hostname or ""
    if host not in LOCAL and not remote:
        raise Invalid(
            f"{host} is another machine: say --remote when you may load it", errors=[FieldError("remote", "yes")]
        )
    return host, url.port or 80


def signature_of(service: "Service") -> Signature:
    """Return what the service's stable version takes."""
    record = service.http.call("GET", f"/models/{service.record.variants[0].model}")
    return ModelRecord.model_validate(record).signature


def measured(
    address: tuple[str, int], requests: Sequence[bytes], connections: int, seconds: float, rate: float | None = None
) -> Level:
    """Measure one level. Raises `Unavailable` when nobody answers there."""
    try:
        return load.measure(address, requests, connections, seconds, rate)
    except OSError as error:
        raise Unavailable(f"nobody answers at {address[0]}:{address[1]}: {error.strerror or error}") from error


def _body(tensors: list[dict[str, Any]]) -> bytes:
    return json.dumps({"inputs": tensors}, separators=(",", ":")).encode()


def _shape(spec: TensorSpec, rows: int, values: int = 0) -> list[int]:
    rest = [_OPEN if d == -1 else d for d in spec.shape[1:]]
    if values and spec.shape[1:].count(-1) == 1:
        known = 1
        for d in spec.shape[1:]:
            known *= d if d != -1 else 1
        rest[spec.shape[1:].index(-1)] = values // max(1, known)
    return [rows, *rest]


def _tensor(spec: TensorSpec, rows: int, chance: random.Random) -> dict[str, Any]:
    shape = _shape(spec, rows)
    count = 1
    for d in shape:
        count *= d
    data = [_value(spec, chance) for _ in range(count)]
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data}


def _value(spec: TensorSpec, chance: random.Random) -> Any:
    if spec.categories:
        return chance.choice(spec.categories)
    if spec.datatype == "BYTES":
        return chance.choice(_WORDS)
    if spec.type is FeatureType.DATETIME:
        return chance.randint(*_MICROSECONDS)
    if spec.datatype == "BOOL":
        return chance.random() < 0.5
    if spec.datatype == "UINT8":
        return chance.randint(0, 255)
    if spec.datatype == "INT64":
        return chance.randint(0, 9)
    return round(chance.random(), 4)
