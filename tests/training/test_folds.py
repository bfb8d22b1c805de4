"""A model of a fold is the one that a training of the same rows makes."""

from pathlib import Path

import numpy as np
import pytest
from tests.support.handle import FileHandle, reader_of

from leptonai.adapters.frameworks import arrays
from leptonai.training import trainee
from leptonai.training.folds import learnt
from leptonai.training.spec import Train
from leptonai.training.work import encoding_of, picked, train

pytestmark = pytest.mark.usefixtures("warm", "here")


def test_it_learns_as_a_training_does(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    label = draw.integers(0, 3, 150)
    pictures = (draw.integers(0, 150, (150, 8, 8, 1)) + 35 * label[:, None, None, None]).astype(np.uint8)
    reader = reader_of({"image": pictures, "label": label}, "label", label="category")
    handle = FileHandle(tmp_path / "job", datasets={"train": reader})
    spec = Train.model_validate(
        {"data": "train", "epochs": 6, "batch_size": 32, "learning": {"schedule": "onecycle", "ema": 0.9},
         "augment": [{"op": "shift"}]}
    )  # fmt: skip
    whole, _ = arrays.parse(handle.read(train(spec, handle)["weights"]))
    subject = picked(spec, reader, handle)
    encoding = encoding_of(subject, reader, trainee.Traits.of(subject.learner))
    fold, _ = arrays.parse(learnt(subject, encoding, reader, handle).weights())
    for name, value in whole.items():
        np.testing.assert_allclose(fold[name], value, rtol=0, atol=1e-6, err_msg=name)
