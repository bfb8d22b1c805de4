"""The race itself with made-up models whose speed is known, then with real ones."""

import io
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.support import bundles

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.runtimes import LoadedModel, Variant
from leptonai.core.signature import FeatureType, Signature, TensorSpec
from leptonai.serving.plane import race as subject
from leptonai.serving.plane.agreement import Tolerance
from leptonai.serving.plane.race import Entrant, Outcome, choose, offered, pick, race
from leptonai.serving.plane.samples import odd, plain, usual

SIGNATURE = bundles.adder(1)[0].signature  # x FP64 -> prediction FP32
REFERENCE = Variant("onnx")
QUICK = Variant("openvino")
ROUND = Variant("openvino", precision="bf16")


class Clock:
    """Time for the made-up models: it moves by what they say that they cost, and by nothing else."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def now() -> float:
        Clock.now += 1e-7
        return Clock.now

    monkeypatch.setattr(subject, "time", SimpleNamespace(perf_counter=now))


class Made:
    """prediction = x + `off`, in `fixed` seconds and `each` for every row."""

    def __init__(self, fixed: float = 0.0, each: float = 1e-5, off: float = 0.0, picky: bool = False):
        self.fixed, self.each, self.off, self.picky, self.closed = fixed, each, off, picky, 0

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        x = inputs["x"]
        if self.picky and np.isnan(x).any():
            raise Invalid("a number is missing")
        Clock.now += self.fixed + self.each * len(x)
        return {"prediction": (x + self.off).astype(np.float32)}

    def close(self) -> None:
        self.closed += 1


def run(models: Mapping[Variant, LoadedModel | Exception], **how: Any) -> Outcome:
    def load(variant: Variant) -> LoadedModel:
        made = models[variant]
        if isinstance(made, Exception):
            raise made
        return made

    return race(list(models), load, SIGNATURE, seconds=0.05, **how)


def test_the_quickest_in_batches_wins_and_the_others_are_closed(clock: None) -> None:
    slow, quick = Made(1e-5, 2e-5), Made(1e-5, 5e-6)
    outcome = run({REFERENCE: slow, QUICK: quick})
    assert outcome.chosen == QUICK
    assert outcome.model is quick
    assert (slow.closed, quick.closed) == (1, 0)
    first, second = outcome.table
    assert first.variant == REFERENCE
    assert second.throughput > 2 * first.throughput
    assert set(first.seconds) == set(subject.SIZES)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Made(each=0, off=0.01), "a number is 0.01"),
        (Made(each=0, picky=True), "for gaps values: a number is missing"),
        (Invalid("no conversion rule"), "no conversion rule"),
        (RuntimeError("out of luck"), "RuntimeError: out of luck"),
    ],
)
def test_what_does_not_do_as_the_reference_does_takes_no_part(other: Made | Exception, why: str) -> None:
    outcome = run({REFERENCE: Made(), QUICK: other})
    assert outcome.chosen == REFERENCE
    assert why in outcome.table[1].refused
    assert outcome.table[1].to_dict()["refused"]
    assert not outcome.table[0].seconds, "there was nobody to race against"
    if isinstance(other, Made):
        assert other.closed == 1


def test_what_computes_where_the_reference_refuses_takes_no_part() -> None:
    outcome = run({REFERENCE: Made(picky=True), QUICK: Made(each=0)})
    assert outcome.table[1].refused == "it computes gaps values, which the reference refuses"


def test_a_rounder_precision_takes_part_only_when_it_is_allowed(clock: None) -> None:
    models = {REFERENCE: Made(1e-5, 2e-5), ROUND: Made(1e-5, 2e-6, off=1e-5)}
    refused = run(models)
    assert (refused.chosen, refused.table[1].refused) == (REFERENCE, "a rounder precision is not allowed here")
    allowed = run(models, tolerance=Tolerance(reduced=True))
    assert allowed.chosen == ROUND
    assert 0 < allowed.table[1].difference < 1e-4


def test_a_reference_that_cannot_be_used_is_the_model_s_fault() -> None:
    with pytest.raises(Invalid, match="broken file"):
        run({REFERENCE: Invalid("broken file"), QUICK: Made()})


def test_all_are_closed_when_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subject, "_time", interrupt)
    models = {REFERENCE: Made(), QUICK: Made()}
    with pytest.raises(KeyboardInterrupt):
        run(models)
    assert [model.closed for model in models.values()] == [1, 1]


class Wide:
    """Takes what its neighbours take too, such as the memory's bandwidth: quicker alone than `Made`, and not in company."""

    bandwidth = threading.Lock()

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        with self.bandwidth:
            time.sleep(0.002)
        return {"prediction": inputs["x"].astype(np.float32)}

    def close(self) -> None:
        pass


class Narrow(Wide):
    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        time.sleep(0.003)
        return {"prediction": inputs["x"].astype(np.float32)}


@pytest.mark.parametrize(("processes", "winner"), [(1, QUICK), (2, REFERENCE)])
def test_what_is_quicker_alone_must_be_so_when_all_processes_compute(processes: int, winner: Variant) -> None:
    made = {REFERENCE: Narrow, QUICK: Wide}
    outcome = race(list(made), lambda variant: made[variant](), SIGNATURE, seconds=0.2, processes=processes)
    assert outcome.chosen == winner
    assert outcome.table[1].throughput > outcome.table[0].throughput
    assert ("2 at once" in outcome.table[1].refused) == (processes == 2)


def test_it_ends_in_time_whatever_the_models_cost(clock: None) -> None:
    models = {variant: Made(each=2e-4) for variant in (REFERENCE, QUICK, ROUND)}
    start = Clock.now
    outcome = race(list(models), models.__getitem__, SIGNATURE, seconds=0.02, tolerance=Tolerance(reduced=True))
    assert Clock.now - start < 0.3
    assert outcome.table[-1].refused == "there was no time left to try it"
    assert set(outcome.table[0].seconds) == {1, 16}, "a heavy model is judged by smaller batches"


def entrant(runtime: str, one: float, many: float) -> Entrant:
    return Entrant(Variant(runtime), {1: one, 16: 16 / many, 64: 64 / many})


@pytest.mark.parametrize(
    ("table", "wins"),
    [
        ([("onnx", 1.0, 100), ("other", 1.0, 105)], "onnx"),  # noise
        ([("onnx", 1.0, 100), ("other", 1.0, 115)], "other"),
        ([("onnx", 1.0, 100), ("other", 1.4, 300)], "other"),
        ([("onnx", 1.0, 100), ("other", 1.6, 300)], "onnx"),  # a single row would wait for it
        ([("onnx", 2.0, 100), ("other", 1.0, 100)], "other"),  # the reference is the slow one for a single row
        ([("onnx", 1.0, 100), ("other", 1.0, 120), ("third", 1.0, 130)], "third"),
    ],
)
def test_throughput_decides_as_long_as_a_single_row_does_not_wait(table: list[Any], wins: str) -> None:
    assert choose([entrant(*row) for row in table]).variant.runtime == wins


def test_what_is_offered_depends_on_cores_processes_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def __init__(self, name: str):
            self.name = name

        def variants(self, signature: Signature) -> list[Variant]:
            return [Variant(self.name), Variant(self.name, precision="bf16"), Variant(self.name, device="cuda")]

    monkeypatch.setattr(plugins, "names", lambda port: ("another", "onnx"))
    monkeypatch.setattr(plugins, "runtime", Fake)

    def said(**how: Any) -> list[str]:
        return [variant.name for variant in offered(SIGNATURE, **how) if variant.runtime == "onnx"]

    assert said(cores=2, processes=2) == ["onnx fp32 cpu, 1 thread", "onnx fp32 cuda, 1 thread"]
    assert [v.threads for v in offered(SIGNATURE, cores=16) if v.runtime == "onnx" and v.device == "cpu"] == [1, 4, 16]
    assert "onnx bf16 cpu, 2 threads" in said(cores=2, precision="auto")
    assert offered(SIGNATURE, cores=2)[0] == REFERENCE
    assert {variant.runtime for variant in offered(SIGNATURE, cores=1)} == {"onnx", "another"}
    with pytest.raises(Invalid, match="'fp32' or 'auto'"):
        offered(SIGNATURE, cores=1, precision="int1")


@pytest.mark.parametrize("make", [bundles.people, bundles.picture, bundles.tensors, bundles.fussy])
def test_made_up_batches_are_of_the_model_s_form(make: Any) -> None:
    signature = make()[0].signature
    samples = [plain(signature, 8), usual(signature, 8), *odd(signature, 8)]
    assert {sample.kind for sample in samples} <= {"plain", "usual", "gaps", "far", "wide"}
    for sample in samples:
        for spec in signature.inputs:
            value = sample.inputs[spec.name]
            assert value.shape == (8, *spec.shape[1:])
            assert value.dtype == plain(signature, 8).inputs[spec.name].dtype
            if sample.kind in ("plain", "usual") and spec.categories:
                assert set(value.ravel().tolist()) <= set(spec.categories)
    again = usual(signature, 8)
    assert all((again.inputs[name] == value).all() for name, value in samples[1].inputs.items())


@pytest.fixture(scope="module")
def cnn() -> dict[str, bytes]:
    """A convolutional net for 28x28 images, as small as it can be."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(288, 10), nn.Softmax(1)
            )

        def forward(self, image: Any) -> Any:
            found = self.layers(image.permute(0, 3, 1, 2).float() / 255)
            return found.argmax(1), found

    torch.manual_seed(0)
    out, names = io.BytesIO(), ["label", "probabilities"]
    example = torch.zeros(2, 28, 28, 1, dtype=torch.uint8)
    axes = {name: {0: "batch"} for name in ("image", *names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter says that there is a newer one
        torch.onnx.export(
            Net().eval(), (example,), out, input_names=["image"], output_names=names, dynamic_axes=axes, dynamo=False
        )
    return {"model.onnx": out.getvalue()}


def image_signature() -> Signature:
    digits = tuple(range(10))
    return Signature(
        inputs=(TensorSpec(name="image", datatype="UINT8", shape=(-1, 28, 28, 1), type=FeatureType.IMAGE),),
        outputs=(
            TensorSpec(name="label", datatype="INT64", shape=(-1,), categories=digits),
            TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 10)),
        ),
        task="classification",
        classes=digits,
    )


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
class TestReal:
    def test_every_way_to_compute_a_cnn_agrees_and_is_measured(self, cnn: dict[str, bytes]) -> None:
        outcome = pick(cnn, image_signature(), cores=2, precision="auto", seconds=0.3)
        with_bf16 = [entrant for entrant in outcome.table if entrant.variant.precision == "fp32"]
        assert {entrant.variant.runtime for entrant in with_bf16} == {"onnx", "openvino"}
        for one in with_bf16:
            assert not one.refused
            assert set(one.seconds) == set(subject.SIZES)
            assert one.difference < 1e-5
        images = usual(image_signature(), 5).inputs
        assert outcome.model.predict(images)["label"].shape == (5,)
        outcome.model.close()

    def test_a_table_with_words_stays_where_it_can_be_computed(self) -> None:
        model, files = bundles.people()
        outcome = pick(files, model.signature, cores=1)
        assert outcome.chosen == REFERENCE
        assert [entrant.variant.runtime for entrant in outcome.table] == ["onnx"]
        outcome.model.close()

    def test_a_table_of_numbers_is_raced(self) -> None:
        model, files = bundles.adder(1, columns=("x", "y", "z"))
        outcome = pick(files, model.signature, cores=1, seconds=0.1)
        assert [(one.variant.runtime, one.refused) for one in outcome.table] == [("onnx", ""), ("openvino", "")]
        outcome.model.close()

    def test_a_lookup_that_openvino_answers_out_of_nothing_stays_with_the_reference(self) -> None:
        """Beyond the end of a table ONNX Runtime refuses, and OpenVINO gives 0."""
        model, files = bundles.fussy()
        outcome = pick(files, model.signature, cores=1, seconds=0.1)
        assert outcome.chosen == REFERENCE
        assert outcome.table[1].refused == "it computes far values, which the reference refuses"
        outcome.model.close()

    def test_a_model_that_nothing_computes_is_refused_with_its_reason(self) -> None:
        model, files = bundles.broken(1, "no model")
        with pytest.raises(Invalid, match=r"model\.onnx cannot be loaded"):
            pick(files, model.signature, cores=1)
