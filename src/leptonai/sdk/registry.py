"""Model versions as user code holds them."""

import builtins
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from leptonai.core.errors import FieldError, NotFound
from leptonai.core.nouns import Model as ModelRecord
from leptonai.core.nouns import Run as RunRecord
from leptonai.core.refs import ModelRef, check_name
from leptonai.core.signature import Signature
from leptonai.sdk import client, show

if TYPE_CHECKING:
    from leptonai.sdk.client import Client
    from leptonai.sdk.datasets import Dataset
    from leptonai.sdk.replicas import Range
    from leptonai.sdk.results import Report
    from leptonai.sdk.services import Service


class ModelVersion:
    """One immutable version of a model: what it takes and gives, how good it is, and where it came from."""

    def __init__(self, record: ModelRecord, via: "Client"):
        self.record = record
        self._client = via

    @property
    def name(self) -> str:
        """The name that its versions share."""
        return self.record.name

    @property
    def version(self) -> int:
        """Its number, from 1."""
        return self.record.version

    @property
    def ref(self) -> str:
        """Its reference: ``models:/name/3``."""
        return str(ModelRef(name=self.name, version=self.version))

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that were kept with it."""
        return dict(self.record.metrics)

    @property
    def signature(self) -> Signature:
        """Inputs and outputs with their types, the task, and the classes."""
        return self.record.signature

    @property
    def lineage(self) -> dict[str, Any]:
        """The dataset version, Run, spec, digest of the code, seed and library versions it came from."""
        return dict(self.record.lineage)

    @property
    def note(self) -> str:
        """What there is to say, such as why it has no ONNX file."""
        return self.record.note

    @property
    def bytes(self) -> int:
        """The size of its ONNX file, else of its native weights."""
        return self.record.bytes

    @property
    def files(self) -> list[str]:
        """The names of the files in it; `download` gives one."""
        return sorted(self.record.files)

    @property
    def aliases(self) -> list[str]:
        """The aliases that point at it now."""
        found = self._client.http.pages("/aliases", params={"name": self.name})
        return sorted(item["alias"] for item in found if item["model"] == self.record.id)

    def download(self, file: str = "model.onnx", to: str | Path | None = None) -> builtins.bytes:
        """Return a file of it; with `to`, write it there too. Raises `NotFound` that names the files there are."""
        if file not in self.record.files:
            right = f"one of {', '.join(self.files)}"
            raise NotFound(f"{self.ref} has no file {file!r}: it has {right}", errors=[FieldError("file", right)])
        data: builtins.bytes = self._client.http.download(self.record.files[file])
        if to is not None:
            Path(to).write_bytes(data)
        return data

    def deploy(
        self,
        service: str,
        *,
        site: str = "home",
        public: bool | None = None,
        pin: bool | None = None,
        replicas: "Range | None" = None,
        wait: bool = True,
        timeout: float = 300.0,
        **rollout: Any,
    ) -> "Service":
        """Make it answer under a name; a service that exists moves to it without a failed request.

        One that answers already moves step by step: the new version is tried on recorded requests, then on ever more of the
        live ones, and is turned back when it fails more often, is slower, or answers otherwise (then this raises
        `Unavailable`). `replicas`, such as ``(1, 4)`` or ``"1..4"``: how many worker processes compute it, as its queue needs, see
        `Service.replicas`. `rollout`: ``strategy="now"`` or ``"shadow"``, `steps` (per cents), `step_seconds`, `agree`, `sticky`.

        Callers need a key with the scope ``service:predict``, unless it is `public`; without that word a service that exists
        stays as it is. With `pin` its model stays in memory whatever else is called; raises `Conflict` when more would be
        pinned than there is room for. Returns when it is loaded, warmed and answers, or at once with ``wait=False``.
        """
        from leptonai.sdk import services

        if pin is not None:
            rollout["pin"] = pin
        if replicas is not None:
            rollout["replicas"] = replicas
        made = services.deploy(self._client, service, self.record.id, site, public, **rollout)
        return made.wait_ready(timeout) if wait else made

    def set_alias(self, alias: str, *, override: str = "") -> Self:
        """Point an alias, such as ``champion``, at this version; no other version has it then.

        Raises `Conflict` that names the rules of the model's gate which it does not keep; `override` says why it is passed all the
        same, which needs the permission ``model:gate`` and stands in the audit.
        """
        check_name(alias, "alias")
        body = {"version": self.version} | ({"override": override} if override else {})
        self._client.http.call("PUT", f"/models/{self.name}/aliases/{alias}", json=body)
        return self

    def verdicts(self) -> list[dict[str, Any]]:
        """Return whether it keeps each rule of its model's gate: ``rule``, ``passed``, and a sentence with the figures."""
        from leptonai.sdk import gates

        return gates.verdicts(self)

    def evaluate(self, data: "Dataset | str", **asked: Any) -> "Report":
        """Measure this version on a dataset, as `Model.evaluate` does; ``against="champion"`` tests it against that version."""
        from leptonai.sdk.reports import evaluate

        if "against" in asked and ":" not in str(asked["against"]) and "/" not in str(asked["against"]):
            asked["against"] = f"models:/{self.name}@{asked['against']}"
        return evaluate(self._client, {"model": self.ref, **asked}, data)

    def explain(self, data: object, **asked: Any) -> Any:
        """Say why it answers rows as it does, as `Service.explain` does."""
        from leptonai.sdk.explanations import explain

        return explain(self._client, {"model": self.ref}, self.record, data, asked)

    def delete(self) -> None:
        """Take it away. Raises `Conflict` while an alias or a service needs it."""
        self._client.http.call("DELETE", f"/models/{self.name}/{self.version}")

    def summary(self) -> dict[str, object]:
        """Return what a table shows of it."""
        inputs = ", ".join(f"{i.name}: {i.type or i.datatype}" for i in self.signature.inputs[:8])
        more = len(self.signature.inputs) - 8
        classes = ", ".join(map(str, self.signature.classes[:12]))
        facts: dict[str, object] = {
            "task": self.signature.task,
            "framework": self.record.framework,
            "inputs": inputs + (f", … {more} more" if more > 0 else ""),
            "outputs": ", ".join(f"{o.name}: {o.datatype}" for o in self.signature.outputs),
            "classes": classes + (", …" if len(self.signature.classes) > 12 else ""),
            **self.metrics,
            "size": show.size(self.bytes),
            "dataset": self.lineage.get("dataset"),
            "trained by": self.lineage.get("run"),
            "note": self.note,
        }
        return {name: value for name, value in facts.items() if value not in (None, "")}

    def __repr__(self) -> str:
        metrics = "".join(f", {name} {show.number(value)}" for name, value in list(self.metrics.items())[:4])
        note = f", note: {self.note}" if self.note else ""
        return f"ModelVersion({self.ref}, {self.record.framework}, {show.size(self.bytes)}{metrics}{note})"

    def _repr_html_(self) -> str:
        return show.card(f"Model {self.ref}", self.summary())


def get_model(ref: str) -> ModelVersion:
    """Return a model version by reference: ``models:/name/3``, ``models:/name@champion``, or ``models:/name`` (newest)."""
    via = client.current()
    return ModelVersion(ModelRecord.model_validate(via.http.call("GET", path(ref))), via)


def list_models(name: str | None = None, *, limit: int = 100) -> list[ModelVersion]:
    """Return model versions, newest first."""
    via = client.current()
    found = via.http.pages("/models", params={"name": name}, limit=limit)
    return [ModelVersion(ModelRecord.model_validate(item), via) for item in found]


def path(ref: str) -> str:
    """Return the path of a model version in the HTTP API."""
    found = ModelRef.parse(ref)
    tail = f"/{found.version}" if found.version else f"@{found.alias}" if found.alias else ""
    return f"/models/{found.name}{tail}"


def made_by(record: RunRecord, via: "Client") -> ModelVersion:
    """Return the version that an export Run made."""
    for item in via.http.pages("/models", params={"name": record.spec["name"]}, limit=1000):
        if item["run"] == record.id:
            return ModelVersion(ModelRecord.model_validate(item), via)
    raise NotFound(f"the version that run {record.id} made was deleted")
