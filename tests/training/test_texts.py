"""Columns of text as features: a transformer as a folder describes it, made small here, and a module of the user's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.handle import FileHandle, reader_of
from tests.support.tiny_texts import BAD, CONFIG, GOOD, folder, sentences
from tests.training.test_work import asked, predictions

from leptonai.core.errors import Invalid, Unsupported
from leptonai.evaluation.spec import Details, Evaluate
from leptonai.evaluation.work import evaluate
from leptonai.training.spec import Fitted, Train
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


def handle_of(tmp_path: Path, rows: int = 240) -> FileHandle:
    table = sentences(rows)
    cut = rows * 3 // 4
    parts = {"train": {n: v[:cut] for n, v in table.items()}, "test": {n: v[cut:] for n, v in table.items()}}
    return FileHandle(
        tmp_path / "job",
        datasets={name: reader_of(data, "mood", review="text") for name, data in parts.items()},
    )


def begins(handle: FileHandle, files: dict[str, bytes], **spec: Any) -> Train:
    given = {"files": {name: handle.write(data) for name, data in files.items()}, "source": "tiny", "whole": True}
    return Train.model_validate(
        {"data": "train", "flavour": "transformers", "facts": {"texts": True}, "pretrained": given, **spec}
    )


def test_a_classifier_of_texts_is_made_of_a_folder_and_learns(tmp_path: Path) -> None:
    handle = handle_of(tmp_path)
    spec = begins(handle, folder(), epochs=4, validation="test", learning={"learning_rate": 0.003}, batch_size=16)
    result = train(spec, handle)
    fitted = Fitted.model_validate(result)
    assert fitted.encoding.layout == "text" and [f.op for f in fitted.encoding.features] == ["text"]
    assert result["pretrained"]["new"] == ["head.weight", "head.bias"]
    assert result["history"]["val_accuracy"][-1] > 0.9
    found = predictions(handle, result)
    assert found.shape == (60, 2) and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert len(handle.read(fitted.code)) < 40_000  # how it is made, not its weights
    measured = Evaluate(
        run=handle.ended(result).id, data="test", explain=True, robustness=True, resamples=0, slices=False
    )
    record = evaluate(measured, handle)
    details = Details.model_validate_json(handle.read(record["details"]))
    assert record["explanation"]["method"] == "integrated gradients"
    strongest = [max(one["words"], key=lambda word: abs(word["share"]))["word"] for one in details.examples]
    assert sum(word in (*GOOD, *BAD) for word in strongest) >= 7  # of 8
    assert next(word["word"] for word in details.examples[0]["words"]) == "the"
    assert "robustness is not told: no column can be spoilt" in record["notes"]


def test_a_text_that_is_missing_is_empty_and_several_columns_are_read_line_by_line() -> None:
    from leptonai.training.encoder import joined

    found = joined([np.array(["a", None], object), np.array(["b", "c"], object)])
    assert found.tolist() == ["a\nb", "\nc"]


def test_a_module_with_a_tokeniser_reads_texts_too(tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Letters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.head = nn.EmbeddingBag(128, 16), nn.Linear(16, 2)

        def tokenize(self, texts: list[str]) -> Any:
            return np.array([[ord(sign) % 128 for sign in text[:20].ljust(20)] for text in texts])

        def forward(self, ids: Any) -> Any:
            return self.head(self.bag(ids))

    torch.manual_seed(0)
    handle = handle_of(tmp_path)
    spec = asked(handle, Letters(), epochs=2, facts={"texts": True}, validation="test")
    result = train(spec, handle)
    assert result["framework"] == "torch" and len(result["history"]["val_loss"]) == 2


def test_a_language_model_learns_how_texts_go_on(tmp_path: Path) -> None:
    handle = handle_of(tmp_path, 80)
    spec = begins(
        handle, folder(generates=True), epochs=6, target="review", validation="test", learning={"learning_rate": 0.02}
    )
    result = train(spec, handle)
    fitted = Fitted.model_validate(result)
    assert fitted.encoding.task == "generation"
    perplexity = result["history"]["val_perplexity"]
    assert perplexity[-1] < 0.7 * perplexity[0]
    found = predictions(handle, result)
    assert found.shape == (20,) and (found > 1).all()


def test_lora_keeps_only_what_it_learnt_and_names_what_it_stands_beside(tmp_path: Path) -> None:
    for generates, more in ((True, {"target": "review"}), (False, {})):
        handle = handle_of(tmp_path / str(generates), 80)
        files = folder(generates=generates)
        learning = {"learning_rate": 0.05, "lora": "4:alpha=8"}
        spec = begins(handle, files, epochs=5, validation="test", learning=learning, **more)
        result = train(spec, handle)
        fitted = Fitted.model_validate(result)
        small = len(handle.read(fitted.weights))
        assert small < len(files["model.safetensors"]) and fitted.base == {
            "base.safetensors": spec.pretrained.files["model.safetensors"]  # type: ignore[union-attr]
        }
        losses = result["history"]["val_loss"]
        assert losses[-1] < losses[0]
        assert any("LoRA of rank 4 beside" in line for line in handle.lines)
        found = predictions(handle, result)
        if generates:  # what is loaded, with the small matrices added to the large ones, is what was measured
            assert np.exp(losses[-1]) == pytest.approx(float(np.exp(np.log(found).mean())), rel=0.05)
        else:
            assert found.shape == (20, 2)


def test_lora_goes_on_to_the_same_bits_and_names_what_it_cannot_find() -> None:
    from tests.training.test_pretrained import X, Y, begun, learner_of, taught, torch_net

    learning: dict[str, Any] = {"lora": {"rank": 2, "targets": ["0", "3"]}, "learning_rate": 0.05}
    whole = taught(begun(learner_of("torch", torch_net(), **learning)), epochs=4)
    first = taught(begun(learner_of("torch", torch_net(), **learning)), epochs=2)
    second = begun(learner_of("torch", torch_net(), **learning))
    second.restore(first.state())
    assert taught(second, epochs=4, first=2).weights() == whole.weights()
    from leptonai.core import plugins

    code = plugins.framework("torch").pack(torch_net(), {"loss": "cross_entropy"}).code
    merged = plugins.framework("torch").load(code, whole.weights())
    assert np.allclose(merged.predict(X), whole.predict(X), atol=1e-5) and len(Y) == 40
    with pytest.raises(Invalid, match="the model has no linear layer for the matrices of attention: name layers"):
        begun(learner_of("torch", torch_net(), lora=4))


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    handle = handle_of(tmp_path)
    for name, data, words in (
        ("config.json", b"{}", "config.json does not say which model it is of"),
        ("config.json", json.dumps({**CONFIG, "model_type": "bertt"}).encode(), "of the type 'bertt'"),
        ("tokenizer.json", b"{]", "tokenizer.json cannot be read"),
        ("model.safetensors", b"PK....", "tiny cannot be read as safetensors"),
    ):
        with pytest.raises(Invalid, match=words):
            train(begins(handle, {**folder(), name: data}), handle)
    with pytest.raises(Unsupported, match="column 'length' is of type number, and the model reads texts only"):
        train(begins(handle, folder(), features=("length",)), handle)
    with pytest.raises(Unsupported, match="adversarial: words cannot be changed by a little"):
        train(begins(handle, folder(), learning={"adversarial": "fgsm"}), handle)


def test_a_head_alone_learns_at_a_rate_of_its_own() -> None:
    from leptonai.core.learning import Learning
    from leptonai.training.defaults import text_learning

    alone = Learning.model_validate({"freeze": "all but head"})
    assert text_learning(alone).learning_rate == 0.01
    for given in (
        {},
        {"freeze": "all but head", "unfreeze_after": 2},
        {"freeze": "all but head", "learning_rate": 0.3},
    ):
        own = Learning.model_validate(given)
        assert text_learning(own) == own
