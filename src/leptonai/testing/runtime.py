"""What every Runtime must do. Subclass it, and give a `runtime` fixture and the files of a model as `files` says.

A runtime that computes text as well passes `TextRuntimeContract` too.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.runtimes import LoadedModel, Runtime
from leptonai.core.signature import Signature, TensorSpec


class RuntimeContract:
    """The fixtures `runtime` and `files` come from the subclass.

    `files` is the bundle of a model with the inputs ``x`` (FP64, ``(batch, 3)``) and ``count`` (INT64, ``(batch,)``), and
    the outputs ``twice`` = 2 x as FP32 and ``next`` = count + 1 (INT64).
    """

    SIGNATURE = Signature(
        inputs=(
            TensorSpec(name="x", datatype="FP64", shape=(-1, 3)),
            TensorSpec(name="count", datatype="INT64", shape=(-1,)),
        ),
        outputs=(
            TensorSpec(name="twice", datatype="FP32", shape=(-1, 3)),
            TensorSpec(name="next", datatype="INT64", shape=(-1,)),
        ),
        task="regression",
    )

    @pytest.fixture
    def model(self, runtime: Runtime, files: Mapping[str, bytes]) -> Iterator[LoadedModel]:
        loaded = runtime.load(files)
        yield loaded
        loaded.close()

    @staticmethod
    def batch(rows: int = 1) -> dict[str, np.ndarray]:
        return {"x": np.arange(3.0 * rows).reshape(rows, 3), "count": np.arange(rows) - 1}

    def check(self, model: LoadedModel, rows: int) -> None:
        batch = self.batch(rows)
        found = model.predict(batch)
        np.testing.assert_array_equal(found["twice"], (batch["x"] * 2).astype(np.float32))
        np.testing.assert_array_equal(found["next"], batch["count"] + 1)
        assert found["twice"].dtype == np.float32
        assert found["next"].dtype == np.int64

    @pytest.mark.parametrize("rows", [1, 2, 3, 8, 100])
    def test_computes_a_batch_of_any_size(self, model: LoadedModel, rows: int) -> None:
        self.check(model, rows)

    def test_an_answer_stays_when_the_next_is_computed(self, model: LoadedModel) -> None:
        first = model.predict(self.batch(2))
        kept = {name: value.copy() for name, value in first.items()}
        model.predict({name: value + 5 for name, value in self.batch(2).items()})
        for name, value in kept.items():
            np.testing.assert_array_equal(first[name], value)

    def test_takes_arrays_as_they_lie_in_memory(self, model: LoadedModel) -> None:
        read_only = np.frombuffer(np.arange(6.0).tobytes(), np.float64).reshape(2, 3)
        turned = np.arange(6.0).reshape(2, 3)[::-1]
        for x in (read_only, turned, np.asfortranarray(read_only)):
            found = model.predict({"x": x, "count": np.arange(4)[::2]})
            np.testing.assert_array_equal(found["twice"], 2 * x)
            assert found["next"].tolist() == [1, 3]

    def test_missing_numbers_stay_missing(self, model: LoadedModel) -> None:
        batch = {"x": np.array([[np.nan, np.inf, 1.0]]), "count": np.array([0])}
        np.testing.assert_array_equal(model.predict(batch)["twice"], [[np.nan, np.inf, 2.0]])

    @pytest.mark.parametrize("count", [2**31, -(2**31) - 2, 2**53 + 1, 2**62, -(2**62)])
    def test_a_large_whole_number_is_right_or_refused(self, model: LoadedModel, count: int) -> None:
        batch = {**self.batch(), "count": np.array([count])}
        try:
            found = model.predict(batch)
        except Invalid as error:
            assert "'count'" in error.message
        else:
            assert found["next"].tolist() == [count + 1]

    def test_each_way_that_it_names_computes(self, runtime: Runtime, files: Mapping[str, bytes]) -> None:
        variants = runtime.variants(self.SIGNATURE)
        assert (variants[0].runtime, variants[0].threads, variants[0].precision) == (runtime.name, 1, "fp32")
        assert len({variant.name for variant in variants}) == len(variants)
        for variant in variants:
            for threads in (1, 2):
                loaded = runtime.load(files, threads, precision=variant.precision, device=variant.device)
                self.check(loaded, 4)
                loaded.close()

    def test_a_precision_or_device_that_it_lacks_is_named(self, runtime: Runtime, files: Mapping[str, bytes]) -> None:
        with pytest.raises(Unsupported, match="fp3"):
            runtime.load(files, precision="fp3")
        with pytest.raises(Unsupported, match="abacus"):
            runtime.load(files, device="abacus")

    def test_gives_only_the_outputs_that_are_named(self, model: LoadedModel) -> None:
        assert list(model.predict(self.batch(), ["next"])) == ["next"]

    @pytest.mark.parametrize(
        ("change", "names"),
        [
            ({"x": None}, "'x'"),
            ({"extra": np.zeros(1)}, "'extra'"),
            ({"x": np.zeros((1, 3), np.float32)}, "'x'"),
            ({"x": np.zeros((1, 4))}, "'x'"),
            ({"x": np.zeros(3)}, "'x'"),
            ({"x": [[0.0, 0.0, 0.0]]}, "'x'"),
            ({"count": np.array([1.0])}, "'count'"),
            ({"count": np.array(["1"], dtype=object)}, "'count'"),
        ],
    )
    def test_names_the_input_that_does_not_fit(self, model: LoadedModel, change: dict[str, object], names: str) -> None:
        batch = {k: v for k, v in {**self.batch(), **change}.items() if v is not None}
        with pytest.raises(Invalid, match=names):
            model.predict(batch)

    def test_names_an_output_that_is_not_there(self, model: LoadedModel) -> None:
        with pytest.raises(Invalid, match="nothing"):
            model.predict(self.batch(), ["nothing"])

    def test_a_bad_batch_does_no_lasting_harm(self, model: LoadedModel) -> None:
        with pytest.raises(Invalid):
            model.predict({"x": np.zeros((1, 3)), "count": np.zeros((0, 1), np.int64)})
        self.check(model, 2)

    @pytest.mark.parametrize("data", [b"", b"junk", b"\x08\x08" + b"\xff" * 100, b"<?xml version='1.0'?><net/>"])
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
            model.predict(self.batch())


class TextRuntimeContract:
    """The fixtures `runtime` and `text_files` come from the subclass.

    `text_files` is the bundle of a model with the input ``word`` (BYTES, ``(batch,)``) and the output ``code``: 1 for the
    word "a", 2 for "b", 0 for any other (INT64).
    """

    @pytest.fixture
    def text_model(self, runtime: Runtime, text_files: Mapping[str, bytes]) -> Iterator[LoadedModel]:
        loaded = runtime.load(text_files)
        yield loaded
        loaded.close()

    @pytest.mark.parametrize("rows", [1, 2, 3, 8, 100])
    def test_computes_words_in_a_batch_of_any_size(self, text_model: LoadedModel, rows: int) -> None:
        words = (["a", "b", "c", "é\U0001f600"] * rows)[:rows]
        found = text_model.predict({"word": np.array(words, dtype=object)})
        assert found["code"].tolist() == ([1, 2, 0, 0] * rows)[:rows]

    def test_a_word_with_a_zero_byte_is_another_word(self, text_model: LoadedModel) -> None:
        assert text_model.predict({"word": np.array(["a\0b"], dtype=object)})["code"].tolist() == [0]

    @pytest.mark.parametrize(
        "word", [np.array([1], dtype=object), np.array(["a"]), np.array([None], dtype=object), ["a"]]
    )
    def test_what_is_no_text_is_refused_by_name(self, text_model: LoadedModel, word: object) -> None:
        with pytest.raises(Invalid, match="'word'"):
            text_model.predict({"word": word})
