"""A study from its spec to its result, with real models on real rows; and what is left of one that was cut anywhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.cancer import table
from tests.support.handle import FileHandle, reader_of

from leptonai.core import plugins
from leptonai.training.spec import Fitted, Train
from leptonai.training.work import train
from leptonai.tuning import journal
from leptonai.tuning.spec import Tune, Tuned
from leptonai.tuning.work import tune

pytestmark = pytest.mark.usefixtures("warm", "here")


def handle_for(folder: Path, kind: type[FileHandle] = FileHandle) -> FileHandle:
    parts = {"train": slice(0, 400), "test": slice(400, 569)}
    return kind(folder, "tune", {name: reader_of(table(rows), "diagnosis") for name, rows in parts.items()})


def asked(handle: FileHandle, model: Any, space: Any, compiled: Mapping[str, Any] | None = None, **spec: Any) -> Tune:
    framework = plugins.framework_of(model)
    packed = framework.pack(model, compiled or {})
    given = {"framework": framework.name, "flavour": packed.flavour, "code": handle.write(packed.code)}
    of_train = {"data": "train", "validation": "test", **given, **spec.pop("train", {})}
    document = {
        "data": "train", "validation": "test", "space": space, "train": of_train, "goals": [{"metric": "val_accuracy"}], "parallel": 1, **spec
    }  # fmt: skip
    return Tune.model_validate(document)


def forest() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=0)


TREES = {
    "max_depth": {"kind": "int", "low": 1, "high": 12},
    "min_samples_leaf": {"kind": "int", "low": 1, "high": 100, "log": True},
    "criterion": {"kind": "choice", "choices": ["gini", "entropy"]},
}


def shown(tuned: Tuned) -> list[Any]:
    return [(t.number, t.state, t.params, t.values) for t in tuned.trials]


def test_the_best_of_many_is_a_training_like_any_other(tmp_path: Path) -> None:
    handle = handle_for(tmp_path / "job")
    tuned = Tuned.model_validate(tune(asked(handle, forest(), TREES, trials=15, seed=3), handle))
    assert [t.number for t in tuned.trials] == list(range(15)) and all(t.state == "done" for t in tuned.trials)
    best = tuned.trials[tuned.best]
    assert best.values[0] == max(t.values[0] for t in tuned.trials) > 0.9
    assert set(tuned.importance) == set(TREES) and tuned.kept.keys() == {str(tuned.best)}
    kept = tuned.kept[str(tuned.best)]
    fitted = Fitted.model_validate(kept.fitted)
    assert fitted.history["val_accuracy"] == [best.values[0]]
    again = Fitted.model_validate(train(Train.model_validate(kept.spec), handle_for(tmp_path / "job")))
    # Its spec alone makes the same model; beside the trial's it is measured on the rows it learnt from.
    assert {name: values for name, values in again.history.items() if name.startswith("val_")} == fitted.history
    left = {blob.id for blob in handle.raw.list()}
    assert {fitted.code, fitted.weights, fitted.events} <= left
    assert (
        len(left) == 4 + 2
    )  # with the packed model, and what the second training wrote: those of lesser trials are gone


class Cut(Exception):
    pass


class Dies(FileHandle):
    """Dies before, or after, its n-th write of the journal."""

    before = after = -1
    writes = 0

    def note(self, *entries: Mapping[str, Any]) -> None:
        self.writes += 1
        if self.writes == self.before:
            raise KeyboardInterrupt
        super().note(*entries)
        if self.writes == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "sampler", ["tpe", *(pytest.param(other, marks=pytest.mark.slow) for other in ("cmaes", "grid", "random"))]
)
def test_cut_before_or_after_any_write_no_trial_is_lost_and_none_counts_twice(tmp_path: Path, sampler: str) -> None:
    space = {name: one for name, one in TREES.items() if name != "min_samples_leaf" or sampler != "grid"}
    whole = handle_for(tmp_path / "whole")
    trials = 4 if sampler == "tpe" else 8  # the slow ones are longer
    asks = {"trials": trials, "seed": 1, "sampler": sampler}
    expected = Tuned.model_validate(tune(asked(whole, forest(), space, **asks), whole))
    for write in range(1, trials + 2):
        for when in ("before", "after"):
            folder = tmp_path / f"{when}{write}"
            handle = handle_for(folder, Dies)
            spec = asked(handle, forest(), space, **asks)
            setattr(handle, when, write)
            with pytest.raises(KeyboardInterrupt):
                tune(spec, handle)
            found = Tuned.model_validate(tune(spec, handle_for(folder)))
            assert shown(found) == shown(expected), (when, write)
            assert found.best == expected.best and found.kept.keys() == expected.kept.keys()
            entries = handle.noted()
            begun = [e["number"] for e in entries if e["kind"] == "asked"]
            ended = [e["trial"]["number"] for e in entries if e["kind"] == "told"]
            assert begun == ended == list(range(trials)), (when, write)
            assert journal.read([*entries, *entries[-3:]]) == journal.read(
                entries
            )  # an answer that was lost: written twice
