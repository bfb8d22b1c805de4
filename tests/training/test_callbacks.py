"""What users have called while a model learns, and what goes wrong inside a training: each ends in one clear sentence."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.test_work import Dies, FileHandle, asked, cancer, handle_for, net

from leptonai.core.errors import Invalid
from leptonai.core.stages import PACK, load
from leptonai.training.callbacks import check
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


class Counts:
    """Notes what it is told in a file, and remembers how often it was called."""

    def __init__(self, path: Path):
        self.path, self.batches = path, 0

    def set_model(self, model: Any) -> None:
        self.model = model

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        self._note(f"begin {epoch}")

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        assert logs["loss"] > 0
        self.batches += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> str | None:
        self._note(f"end {epoch} {sorted(logs)} {self.batches}")
        return "stop" if epoch == 2 else None

    def on_train_end(self, logs: dict[str, float]) -> None:
        self._note(f"over {type(self.model).__name__}")

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batches = state["batches"]

    def _note(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")


def called(handle: FileHandle, callbacks: list[Any], **spec: Any) -> Any:
    given = {"epochs": 9, "batch_size": 100, "checkpoint_seconds": 1e-9, **spec}
    return asked(handle, net(), callbacks=handle.write(load(PACK)(callbacks, "callbacks")), **given)


def test_callbacks_are_called_stop_a_training_and_go_on_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leptonai.training.loop._PROGRESS_SECONDS", 0)
    whole = handle_for(tmp_path, cancer(), "diagnosis", 400)
    spec = called(whole, [Counts(tmp_path / "notes")])
    result = train(spec, whole)
    wanted = (tmp_path / "notes").read_text().splitlines()
    assert wanted == [
        "begin 0", "end 0 ['loss'] 4", "begin 1", "end 1 ['loss'] 8", "begin 2", "end 2 ['loss'] 12", "over Sequential",
    ]  # fmt: skip
    assert result["epochs"] == 3
    assert "stopped after epoch 3: callback Counts asked for it" in whole.lines
    (tmp_path / "notes").unlink()
    dies = Dies(tmp_path / "dies", datasets=whole.datasets, after=6)
    dies.blobs, dies.raw = whole.blobs, whole.raw
    with pytest.raises(ConnectionAbortedError):
        train(spec, dies)
    again = FileHandle(tmp_path / "dies", datasets=whole.datasets)
    again.blobs, again.raw = whole.blobs, whole.raw
    assert train(spec, again)["history"] == result["history"]
    assert (tmp_path / "notes").read_text().splitlines()[-2:] == wanted[-2:]


@pytest.mark.parametrize(("how", "says"), [("raises", "ValueError: no disk"), ("exits", "SystemExit: 3")])
def test_a_callback_that_fails_is_named(tmp_path: Path, how: str, says: str) -> None:
    def saver(epoch: int, logs: dict[str, float]) -> None:
        if how == "exits":
            sys.exit(3)
        raise ValueError("no disk")

    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    with pytest.raises(Invalid, match=f"callback saver failed in on_epoch_end: {says}"):
        train(called(handle, [saver]), handle)


def test_what_is_no_callback() -> None:
    check([print, Counts(Path("x"))])
    with pytest.raises(Invalid, match="not the class"):
        check([Counts])
    with pytest.raises(Invalid, match="int is neither a function"):
        check([3])


class Rude:
    """Makes the forward of a network behave badly from its third learning step on."""

    def __init__(self, how: str):
        self.how, self.calls = how, 0

    def __call__(self, module: Any, inputs: Any) -> None:
        import torch

        self.calls += module.training
        if self.how == "leaves" and self.calls > 2:
            sys.exit(3)
        if self.how == "eats" and self.calls > 2 and len(inputs[0]) > 12:
            torch.empty(2**50)
        if self.how == "eats at once" and len(inputs[0]) > 12:
            torch.empty(2**50)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("leaves", r"epoch 1, batch 3 of training: it called sys.exit\(3\)"),
        ("eats", r"batch of 50 rows \(it asked for \d+\.\d GiB more\): batch_size=12 fits, with accumulate=5"),
        ("eats at once", "batch of 50 rows .*batch_size=12 fits"),
    ],
)
def test_a_model_that_leaves_or_eats_all_memory(tmp_path: Path, how: str, says: str) -> None:
    model = net()
    model.register_forward_pre_hook(Rude(how))
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    with pytest.raises(Invalid, match=says):
        train(asked(handle, model, batch_size=50), handle)


@pytest.mark.parametrize(
    ("learning", "says"),
    [
        ({"device": "cuda"}, "device: there is no cuda where the Run is, only cpu"),
        ({"precision": "fp16"}, "fp16 is for GPUs"),
    ],
)
def test_hardware_that_is_not_there(tmp_path: Path, learning: dict[str, Any], says: str) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("it is there")
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    with pytest.raises(Invalid, match=says):
        train(asked(handle, net(), learning=learning), handle)


@pytest.mark.parametrize("rule", ["fgsm:epsilon=0.4,share=1", "pgd:epsilon=0.4,steps=4,share=1"])
def test_a_model_that_learnt_from_attacks_withstands_them(tmp_path: Path, rule: str) -> None:
    import torch

    from leptonai.adapters.frameworks.torch_attack import attacked
    from leptonai.core import plugins
    from leptonai.core.learning import Adversarial, Learning, Way

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    # One strong feature says it for sure; twenty weak ones say it too, each within reach of an attack.
    x = np.concatenate([(y * 2.0 - 1)[:, None], rng.normal(size=(600, 20)) * 0.2 + (y * 0.4 - 0.2)[:, None]], 1)
    x = x.astype(np.float32)
    framework, right, target = plugins.framework("torch"), {}, torch.from_numpy(y)
    for how in (None, rule):
        learner: Any = framework.load(framework.pack(net(21), {"optimizer": "adam"}).code)
        learner.learn_by(Way(Learning(adversarial=how, learning_rate=0.01)))  # type: ignore[arg-type]
        learner.begin(x[:50], y[:50], "classification", 2, 0)
        for at in [*range(0, 600, 50)] * 6:
            learner.step(x[at : at + 50], y[at : at + 50])
        learner.model.eval()
        hit = attacked(
            torch.from_numpy(x), Adversarial(method="pgd", epsilon=0.4, steps=5, share=1.0), None,
            lambda changed, many, of=learner.model: torch.nn.functional.cross_entropy(of(changed), target[:many]),
        )  # fmt: skip
        assert (hit - torch.from_numpy(x)).abs().max() <= 0.4 + 1e-6
        right[how] = float((learner.model(hit).argmax(1) == target).float().mean())
    assert right[rule] > right[None] + 0.02, right
    assert right[rule] > 0.9, right
