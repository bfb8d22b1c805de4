"""A route is taken only when its graph agrees; every other one leaves a reason."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from tests.support.export import DATA, learn, mixed
from tests.support.handle import ArrayReader, FileHandle

from leptonai.core.errors import MissingExtra, TooLarge, Unsupported
from leptonai.core.ports import Route
from leptonai.core.signature import Signature
from leptonai.training import export_check, export_routes, onnx_graph, onnx_inputs, onnx_tail
from leptonai.training.export_card import card
from leptonai.training.export_routes import Taken
from leptonai.training.spec import Encoding, FeatureCode, Fitted

WEIGHTS = np.array([[1.0, -1.0], [2.0, 0.5]], np.float32)


class Linear:
    """A learner that multiplies, and a framework whose routes the test writes."""

    activation = "softmax"
    name = "linear"

    def __init__(self, *routes: Route):
        self.routes = routes

    def predict(self, x: Any) -> Any:
        return x @ WEIGHTS

    def export(self, learner: Any, example: Any) -> Iterator[Route]:
        assert example.shape == (8, 2)
        yield from self.routes


def product(weights: Any = WEIGHTS, batch: Any = "batch", outputs: int = 1, **how: Any) -> bytes:
    names = ["y", "z"][:outputs]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], [name]) for name in names],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 2]) for name in names],
        [numpy_helper.from_array(np.asarray(weights, np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", how.get("opset", 18))], ir_version=8)
    made.graph.node[0].doc_string = "/home/somebody/secret.py"
    return bytes(made.SerializeToString())


ENCODING = Encoding(
    features=tuple(FeatureCode(column=name, op="raw", type="number", dtype="float64") for name in "ab"),
    target="t", task="classification", classes=("no", "yes"),
)  # fmt: skip
FITTED = Fitted(
    framework="linear", flavour="data", code="c", weights="w", encoding=ENCODING, activation="softmax", history={}, epochs=1,
    data="datasets:/d@v1", dataset="ds", parameters=4, seed=0, versions={},
)  # fmt: skip


def take(folder: Path, *routes: Route, size: int = 10) -> tuple[Taken, FileHandle]:
    framework, told = Linear(*routes), FileHandle(folder, "export")
    rows = {"a": np.arange(20.0) / 7, "b": np.arange(20.0)[::-1] / 3}
    columns = mixed("binary").columns[:1]
    table = ArrayReader(columns, {**rows, "t": np.zeros(20)}, "t")
    sample = export_check.draw(table, ENCODING, framework)
    return export_routes.take(framework, framework, FITTED, sample, size, told), told


def route(name: str, build: Callable[[], bytes]) -> Route:
    return Route(name, build)


def fails() -> bytes:
    try:
        raise ValueError("\x1b[96mno such operator\x1b[0m in /home/somebody/model.py\nand much more")
    except ValueError as error:
        raise RuntimeError("step 3 of 3 failed") from error


def test_the_first_that_agrees_is_taken(tmp_path: Path) -> None:
    taken, told = take(
        tmp_path,
        route("fails", fails),
        route("wrong", lambda: product(WEIGHTS * 1.01)),
        route("one batch", lambda: product(batch=3)),
        route("two outputs", lambda: product(outputs=2)),
        route("no model", lambda: b"nonsense"),
        route("right", product),
        route("never tried", fails),
    )
    assert taken.route == "right"
    assert taken.measured is not None and taken.measured.difference < 1e-6 and taken.measured.rows == 20
    reasons = {refused.route: refused.reason for refused in taken.refused}
    assert reasons.pop("no model")
    assert reasons == {
        "fails": "no such operator in model.py",
        "wrong": reasons["wrong"],
        "one batch": "the batch size is fixed at 3",
        "two outputs": "the model takes 1 inputs and gives 2 outputs, where one of each is needed",
    }
    assert "it differs from the framework by" in reasons["wrong"]
    assert export_routes.note(taken, "linear") == ""
    assert told.shown[-1] == (7, 7, "routes")
    assert any(line.startswith("export: wrong is out: at batch ") for line in told.lines)
    assert "never tried" not in " ".join(told.lines)


def test_a_nan_where_the_framework_has_a_number_is_a_difference(tmp_path: Path) -> None:
    taken, _ = take(tmp_path, route("nan", lambda: product(WEIGHTS * np.nan)))
    assert taken.graph is None and "differs from the framework by inf" in taken.refused[0].reason


def test_where_none_agrees_the_note_says_why(tmp_path: Path) -> None:
    taken, _ = take(tmp_path, route("fails", fails))
    assert export_routes.note(taken, "linear") == (
        "This version has no ONNX file and is served by linear in a process of its own. "
        "Tried were fails: no such operator in model.py."
    )


def test_an_exporter_that_is_not_installed_is_a_reason_too(tmp_path: Path) -> None:
    class Bare(Linear):
        def export(self, learner: Any, example: Any) -> Iterator[Route]:
            raise MissingExtra("install skl2onnx")

    bare = Bare()
    sample = export_check.draw(
        ArrayReader((), {"a": np.zeros(9), "b": np.zeros(9), "t": np.zeros(9)}, "t"), ENCODING, bare
    )
    taken = export_routes.take(bare, bare, FITTED, sample, 1, FileHandle(tmp_path, "export"))
    assert taken.refused[0].reason == "install skl2onnx"


def test_what_one_file_cannot_hold_is_not_tried(tmp_path: Path) -> None:
    taken, told = take(tmp_path, route("never tried", fails), size=3 * 2**30)
    assert taken.refused[0].reason == "the weights are 3.0 GiB, and one file holds 2"
    assert told.lines == []


def test_a_graph_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "LIMIT", 100)
    with pytest.raises(TooLarge, match="2 GiB"):
        onnx_graph.publishable(product(), ENCODING, "softmax", (2,))


def test_nothing_of_this_machine_is_in_the_file() -> None:
    assert b"/home/" not in onnx_graph.publishable(product(), ENCODING, "softmax", (2,))


def test_the_same_model_gives_the_same_bytes() -> None:
    one, two = (onnx_graph.publishable(product(), ENCODING, "softmax", (2,)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("opset", [8, 11, 13, 15, 18, 21])
def test_models_of_any_operator_set(opset: int, tmp_path: Path) -> None:
    taken, _ = take(tmp_path, route("old", lambda: product(opset=opset)))
    assert taken.route == "old", taken.refused
    versions = {o.domain: o.version for o in onnx.load_model_from_string(taken.graph).opset_import}  # type: ignore[arg-type]
    assert versions[""] == (opset if opset >= 15 else 18)


def test_scores_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"shape \(3,\) where 2 classes"):
        onnx_graph.publishable(product(), ENCODING, "softmax", (3,))


def test_a_card_of_strange_names(tmp_path: Path) -> None:
    desk = learn(LogisticRegression(), mixed("binary"), tmp_path)
    fitted = Fitted.model_validate(desk.get("trained").result)
    encoding = fitted.encoding.model_copy(
        update={"features": (FeatureCode(column="a`b|c'd\n# e", op="raw", type="number", dtype="float64"),)}
    )
    signature = Signature(
        inputs=onnx_inputs.specs(encoding), outputs=onnx_tail.outputs(encoding, ()), task="classification"
    )
    report = {"metrics": {}, "evaluation": None, "epochs": 1}
    text = card("m", fitted, signature, desk.data(DATA).dataset, report, {"run": "r", "export": {"route": None}})
    assert "| `a'b\\|c'd\\n# e` | FP64 | [-1] | number |" in text
    assert "\n# e" not in text
    assert "a`b|c'\\''d\\n# e" in text  # in the shell's quotes
