"""A version that has no ONNX file: workers, processes of their own, compute it, reached over Unix sockets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leptonai.core.errors import Unavailable, from_dict
from leptonai.serving import arrays, frames
from leptonai.serving.plane.batcher import Cost
from leptonai.serving.plane.pieces import Piecework
from leptonai.serving.plane.workers import Workers
from leptonai.serving.served import Served
from leptonai.serving.sockets import connect
from leptonai.serving.workers import ANSWER, Work, slot

FIRST_SECONDS = 120.0  # for a batch while it is warmed


class NativeModel:
    """A `LoadedModel` that workers compute. `predict` is for its warm-up; requests go through `batcher`."""

    elsewhere = True  # whatever happens to a worker, this process lives

    def __init__(self, path: str, model: Served, numbers: Sequence[int] | None = None):
        """`numbers`: of the workers there are; None: as many as the version says."""
        self._numbers = numbers
        self.work = Work.of(model.lineage)
        self.predicts = self.work.predicts
        self._folder = Path(path)
        self._model = model

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:  # noqa: ARG002 - all of them
        """Compute one batch over there, by the first worker. Raises what went wrong there, or `Unavailable`."""
        header, parts = arrays.pack(inputs)
        try:
            with connect(slot(self._folder, 0) / ANSWER) as line:
                line.settimeout(FIRST_SECONDS)
                for piece in frames.quick({"op": "predict", "id": 0, **header}, parts):
                    line.sendall(piece)
                frame = frames.receive(line)
        except OSError as error:
            raise Unavailable("its worker died while it computed a first batch") from error
        if frame is None:
            raise Unavailable("its worker died while it computed a first batch")
        if frame.header["op"] == "failed":
            raise from_dict(frame.header["error"])
        found = arrays.unpack(frame)
        return {spec.name: found[spec.name] for spec in self._model.signature.outputs if spec.name in found}

    def batcher(self, name: str, cost: Cost) -> Workers:
        """Return what requests are queued at. To be called on an event loop."""
        return Workers(name, self._folder, self._model.signature, self.work, cost, self._numbers)

    def piecework(self, name: str) -> Piecework | None:
        """Return what gives answers in pieces; None when the version gives none."""
        return Piecework(name, self._folder, self.work, self._numbers) if self.work.streams else None

    def close(self) -> None:
        """Nothing is held: the agent ends the workers."""
