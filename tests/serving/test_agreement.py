import numpy as np
import pytest
from tests.support import bundles

from leptonai.serving.plane.agreement import Agreement, Tolerance

CLASSES = bundles.picture()[0].signature  # label INT64, probabilities FP32 (rows, 2)
VALUES = bundles.adder(1)[0].signature  # prediction FP32


def classes(rows: int = 256) -> dict[str, np.ndarray]:
    yes = np.linspace(0.01, 0.99, rows).astype(np.float32)
    both = np.stack([1 - yes, yes], 1)
    return {"label": both.argmax(1), "probabilities": both}


def test_the_same_answers_agree() -> None:
    agreement = Agreement(CLASSES, Tolerance(), "fp32")
    assert agreement.refusal(classes(), classes()) is None
    assert agreement.difference == 0


@pytest.mark.parametrize(("off", "agrees"), [(5e-5, True), (2e-3, False), (np.nan, False), (np.inf, False)])
def test_a_number_in_fp32_is_near(off: float, agrees: bool) -> None:
    found = classes()
    found["probabilities"] = found["probabilities"].copy()
    found["probabilities"][77, 0] += off
    agreement = Agreement(CLASSES, Tolerance(), "fp32")
    assert (agreement.refusal(classes(), found) is None) is agrees
    assert agreement.difference > 0


def test_large_numbers_are_compared_by_their_size() -> None:
    want = {"prediction": np.array([1e6, np.nan, np.inf, -np.inf], np.float32)}
    near = {"prediction": np.array([1e6 + 100, np.nan, np.inf, -np.inf], np.float32)}
    far = {"prediction": np.array([1e6, np.nan, np.inf, np.inf], np.float32)}
    assert Agreement(VALUES, Tolerance(), "fp32").refusal(want, near) is None
    assert Agreement(VALUES, Tolerance(), "fp32").refusal(want, far) == "output 'prediction': a number is inf off"


@pytest.mark.parametrize(("flips", "agrees"), [(1, True), (2, False)])
def test_a_rounder_precision_may_change_one_class_in_two_hundred(flips: int, agrees: bool) -> None:
    found = classes()
    found["label"] = found["label"].copy()
    found["label"][:flips] = 1
    assert (Agreement(CLASSES, Tolerance(), "bf16").refusal(classes(), found) is None) is agrees


def test_a_rounder_precision_may_move_a_probability_by_a_hundredth() -> None:
    for off, agrees in ((0.009, True), (0.011, False)):
        found = classes()
        found["probabilities"] = found["probabilities"] + np.float32([off, -off])
        found["probabilities"][100:160] = classes()["probabilities"][100:160]  # nobody's class changes
        why = Agreement(CLASSES, Tolerance(), "bf16").refusal(classes(), found)
        assert (why is None) is agrees, why


@pytest.mark.parametrize(
    "found",
    [
        {"label": classes()["label"]},
        {**classes(), "label": classes()["label"].astype(np.int32)},
        {**classes(), "probabilities": classes()["probabilities"][:, :1]},
    ],
)
def test_another_form_is_no_answer(found: dict[str, np.ndarray]) -> None:
    assert "instead of" in str(Agreement(CLASSES, Tolerance(), "fp32").refusal(classes(), found))


def test_a_label_without_classes_must_be_the_same() -> None:
    signature = bundles.tensors()[0].signature
    wanted = {spec.name: np.arange(3) for spec in signature.outputs}
    found = {**wanted, "s_out": np.array([0, 1, 3])}
    assert "'s_out': a value is another one" in str(Agreement(signature, Tolerance(), "fp32").refusal(wanted, found))
