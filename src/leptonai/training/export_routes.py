"""Try the routes of a framework one after the other; take the first whose graph gives what the framework gives."""

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

from leptonai.core.nouns import Frozen
from leptonai.core.ports import Framework, Learner, Route
from leptonai.core.stages import Handle
from leptonai.training import export_check, onnx_graph
from leptonai.training.export_check import Measured, Sample
from leptonai.training.spec import Fitted


class Refused(Frozen):
    """A route that was not taken, and why, in words for the user."""

    route: str
    reason: str


class Taken(NamedTuple):
    """The graph that was taken, or None; and what was refused before it."""

    graph: bytes | None
    route: str | None
    measured: Measured | None
    refused: tuple[Refused, ...]


def take(framework: Framework, learner: Learner, fitted: Fitted, sample: Sample, size: int, handle: Handle) -> Taken:
    """Return the first graph that agrees with the framework. `size`: of the weights, in bytes."""
    refused: list[Refused] = []
    if size > onnx_graph.LIMIT:
        return Taken(
            None,
            None,
            None,
            (Refused(route="ONNX", reason=f"the weights are {size / 2**30:.1f} GiB, and one file holds 2"),),
        )
    activation = fitted.activations or fitted.activation
    routes = _routes(framework, learner, sample, refused)
    for number, route in enumerate(routes):
        handle.progress(number, len(routes), "routes")
        handle.say(f"export: trying {route.name}")
        began = time.monotonic()
        try:
            graph = onnx_graph.publishable(route.build(), fitted.encoding, activation, sample.shape)
            measured = export_check.measure(graph, sample, fitted.encoding, activation, learner)
        except Exception as error:  # noqa: BLE001  exporters and a stranger's model raise anything; each is a reason
            refused.append(Refused(route=route.name, reason=reason(error)))
            handle.say(f"export: {route.name} is out: {refused[-1].reason}")
            continue
        handle.progress(len(routes), len(routes), "routes")
        handle.say(
            f"export: {route.name} gave {len(graph):,} bytes in {time.monotonic() - began:.2f} s; largest difference to "
            f"{fitted.framework} {measured.difference:.2g} at batch 1, 3, 8 and {measured.rows}"
        )
        return Taken(graph, route.name, measured, tuple(refused))
    return Taken(None, None, None, tuple(refused))


def _routes(framework: Framework, learner: Learner, sample: Sample, refused: list[Refused]) -> list[Route]:
    try:
        return list(framework.export(learner, sample.x[:8]))
    except Exception as error:  # noqa: BLE001  such as an exporter that is not installed
        refused.append(Refused(route="ONNX", reason=reason(error)))
        return []


def reason(error: BaseException) -> str:
    """Return the first line of what is at the bottom of an error, without colours and folders."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(
        r"(?<![\w:/])/(?:[\w.@+-]+/)+", "", text
    )  # a path of this machine tells nobody anything: its last part stays
    return next(_sentences(text), "")[:300] or type(error).__name__


def _sentences(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.strip():
            yield line.strip().rstrip(".")


def note(taken: Taken, framework: str) -> str:
    """Return what the user has to know: nothing where an ONNX file was made."""
    if taken.graph is not None:
        return ""
    tried = "; ".join(f"{refused.route}: {refused.reason}" for refused in taken.refused)
    return f"This version has no ONNX file and is served by {framework} in a process of its own. Tried were {tried}."
