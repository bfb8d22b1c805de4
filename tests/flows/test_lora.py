"""A version that LoRA learnt, from the fit to the service: its small matrices beside the weights they stand on."""

from pathlib import Path

import polars as pl
import pytest
from tests.support.tiny_texts import folder, sentences

import leptonai

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("warm")]


@pytest.mark.parametrize("generates", [False, True], ids=["classifier", "language model"])
def test_what_lora_learnt_is_published_measured_and_served(tmp_path: Path, home: Path, *, generates: bool) -> None:
    place = tmp_path / "base"
    place.mkdir()
    for name, data in folder(generates=generates).items():
        (place / name).write_bytes(data)
    table = pl.DataFrame(sentences(160)).drop("length")
    table.write_csv(tmp_path / "reviews.csv")
    data = leptonai.create_dataset(
        "reviews", files=tmp_path / "reviews.csv", target="review" if generates else "mood", types={"review": "text"}
    )
    model = leptonai.Model()
    history = model.fit(data, pretrained=place, lora="4:alpha=8", epochs=4, batch_size=16, learning_rate=0.05)
    assert history["loss"][-1] < history["loss"][0]
    if not generates:
        assert model.evaluate(data, resamples=0).accuracy > 0.8
    version = model.publish("reviews")
    assert {"base.safetensors", "weights.safetensors"} <= set(version.files)
    assert "served by torch in a process of its own" in version.note
    service = version.deploy("reviews", public=True)
    rows = table["review"].to_list()[:3]
    said = service.predict([{"review": text} for text in rows])
    wanted = model.predict(data)[:3]
    for one, scores in zip(said, wanted, strict=True):
        found = one["perplexity"] if generates else one["probabilities"]["good"]
        assert found == pytest.approx(float(scores) if generates else float(scores[1]), rel=1e-3)
    service.delete()
