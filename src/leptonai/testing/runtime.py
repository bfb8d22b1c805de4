"""What every Runtime must do. Subclass it, and give a `runtime` fixture and the files of a model as `files` says."""

from collections.abc import Mapping

import numpy as np
import pytest

from leptonai.core.errors import Invalid
from leptonai.core.ports import LoadedModel, Runtime


class RuntimeContract:
    """The fixtures `runtime` and `files` come from the subclass.

    `files` is the bundle of a model with the inputs ``x`` (FP64, ``(batch, 3)``) and ``word`` (BYTES, ``(batch,)``), and
    the outputs ``twice`` = 2 x as FP32 and ``code``: 1 for the word "a", 2 for "b", 0 for any other (INT64).
    """

    @pytest.fixture
    def model(self, runtime: Runtime, files: Mapping[str, bytes]) -> LoadedModel:
        return runtime.load(files)

    @staticmethod
    def batch(*words: str) -> dict[str, np.ndarray]:
        x = np.arange(3.0 * len(words)).reshape(len(words), 3)
        return {"x": x, "word": np.array(words, dtype=object)}

    @pytest.mark.parametrize("rows", [1, 2, 3, 8, 100])
    def test_computes_a_batch_of_any_size(self, model: LoadedModel, rows: int) -> None:
        batch = self.batch(*(["a", "b", "c", "é\U0001f600"] * rows)[:rows])
        found = model.predict(batch)
        np.testing.assert_array_equal(found["twice"], (batch["x"] * 2).astype(np.float32))
        np.testing.assert_array_equal(found["code"], ([1, 2, 0, 0] * rows)[:rows])
        assert found["twice"].dtype == np.float32
        assert found["code"].dtype == np.int64

    def test_gives_only_the_outputs_that_are_named(self, model: LoadedModel) -> None:
        assert list(model.predict(self.batch("a"), ["code"])) == ["code"]

    def test_a_word_with_a_zero_byte_is_another_word(self, model: LoadedModel) -> None:
        assert model.predict(self.batch("a\0b"))["code"].tolist() == [0]

    @pytest.mark.parametrize(
        ("change", "names"),
        [
            ({"x": None}, "'x'"),
            ({"extra": np.zeros(1)}, "'extra'"),
            ({"x": np.zeros((1, 3), np.float32)}, "'x'"),
            ({"x": np.zeros((1, 4))}, "'x'"),
            ({"x": np.zeros(3)}, "'x'"),
            ({"x": [[0.0, 0.0, 0.0]]}, "'x'"),
            ({"word": np.array([1], dtype=object)}, "'word'"),
            ({"word": np.array(["a"])}, "'word'"),
            ({"word": np.array([None], dtype=object)}, "'word'"),
        ],
    )
    def test_names_the_input_that_does_not_fit(self, model: LoadedModel, change: dict[str, object], names: str) -> None:
        batch = {k: v for k, v in {**self.batch("a"), **change}.items() if v is not None}
        with pytest.raises(Invalid, match=names):
            model.predict(batch)

    def test_names_an_output_that_is_not_there(self, model: LoadedModel) -> None:
        with pytest.raises(Invalid, match="nothing"):
            model.predict(self.batch("a"), ["nothing"])

    def test_a_bad_batch_does_no_lasting_harm(self, model: LoadedModel) -> None:
        with pytest.raises(Invalid):
            model.predict({"x": np.zeros((1, 3)), "word": np.array(["a", "b"], dtype=object)[:0].reshape(0, 1)})
        assert model.predict(self.batch("b"))["code"].tolist() == [2]

    @pytest.mark.parametrize("data", [b"", b"junk", b"\x08\x08" + b"\xff" * 100])
    def test_a_file_that_is_no_model_is_invalid(
        self, runtime: Runtime, files: Mapping[str, bytes], data: bytes
    ) -> None:
        with pytest.raises(Invalid):
            runtime.load(dict.fromkeys(files, data))

    def test_a_cut_file_is_invalid(self, runtime: Runtime, files: Mapping[str, bytes]) -> None:
        with pytest.raises(Invalid):
            runtime.load({name: data[: len(data) // 2] for name, data in files.items()})

    def test_a_bundle_without_the_file_is_invalid(self, runtime: Runtime) -> None:
        with pytest.raises(Invalid):
            runtime.load({})

    def test_close_may_be_called_twice(self, model: LoadedModel) -> None:
        model.close()
        model.close()
        with pytest.raises(Invalid):
            model.predict(self.batch("a"))
