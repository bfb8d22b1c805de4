"""From a training Run to a version: what training leaves is what export takes."""

from pathlib import Path

import numpy as np
import pytest
import tests.support.libraries  # noqa: F401
from tests.support.export import DATA, mixed, pictures
from tests.support.handle import FileHandle

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.nouns import Run
from leptonai.training import onnx_inputs
from leptonai.training.export import export
from leptonai.training.predictor import from_files
from leptonai.training.spec import Export, Fitted, Train
from leptonai.training.work import train


@pytest.mark.parametrize("task", ["binary", "three classes", "regression", "pictures"])
def test_a_model_that_was_picked_from_the_schema(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pictures() if task == "pictures" else mixed(task)
    handle = FileHandle(tmp_path / "home", datasets={DATA: table})
    trained = handle.ended(train(Train(data=DATA, epochs=1), handle))
    evaluation = Run.new(
        name="e", stage="evaluate", spec={"data": "datasets:/table@v1"}, result={"metrics": {"accuracy": 0.5}}
    )
    handle.runs[evaluation.id] = evaluation
    result = export(Export(run=trained.id, name="picked", evaluation=evaluation.id, metrics={"cost": 2.0}), handle)
    assert result["note"] == ""
    assert result["metrics"] == {"accuracy": 0.5, "cost": 2.0}
    assert "Measured on `datasets:/table@v1`." in handle.read(result["files"]["card.md"]).decode()

    fitted = Fitted.model_validate_json(handle.read(result["files"]["fitted.json"]))
    native = next(name for name in result["files"] if name in ("weights.safetensors", "model.skops"))
    code, weights = (handle.read(result["files"][name]) for name in ("code", native))
    expected = from_files(code, weights, fitted.model_dump(mode="json")).scores(table.read())
    served = plugins.runtime("onnx").load({"model.onnx": handle.read(result["files"]["model.onnx"])})
    given = served.predict(onnx_inputs.feed(fitted.encoding, table.read()))
    served.close()
    np.testing.assert_allclose(list(given.values())[-1], expected, atol=1e-4, rtol=1e-4)


def test_a_bad_alias_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="alias 'Champion' is not a valid name"):
        export(Export(run="none", name="m", aliases=("Champion",)), FileHandle(tmp_path))
