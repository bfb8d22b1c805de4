"""Sound files: what a model gets of them, and what is told of those that it cannot take."""

import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.core.errors import Invalid, TooLarge
from leptonai.core.signature import FeatureType, Signature, TensorSpec
from leptonai.serving.plane import audio
from leptonai.serving.predictor import Predictor, signature_of

RATE = 16_000


def spec(samples: int = 1600, *channels: int, rate: int | None = RATE, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(
        name="sound", datatype=datatype, shape=(-1, samples, *channels), type=FeatureType.AUDIO, rate=rate
    )


def tone(seconds: float = 0.1, rate: int = RATE, channels: int = 1, hertz: float = 440.0) -> Any:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.stack([wave] * channels, axis=1)


def file(samples: Any, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    written = io.BytesIO()
    soundfile.write(written, samples, rate, format=kind, subtype=subtype)
    return written.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16")]
)
def test_each_kind_of_file(kind: str, subtype: str) -> None:
    found = audio.decode(file(tone(), kind=kind, subtype=subtype), spec())
    assert (found.dtype, found.shape) == (np.float32, (1600,))
    assert np.abs(found - tone()[:, 0]).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_another_rate(rate: int) -> None:
    found = audio.decode(file(tone(1.0, rate), rate), spec(RATE))
    assert found.shape == (RATE,)
    assert (
        np.abs(found - tone(1.0)[:, 0])[200:-200].max() < 0.01
    )  # at its ends a filter knows nothing of what was before


def test_channels() -> None:
    two = np.concatenate([tone(), np.zeros((1600, 1))], axis=1)
    assert np.abs(audio.decode(file(two), spec()) - tone()[:, 0] / 2).max() < 1e-4
    assert np.abs(audio.decode(file(two), spec(1600, 2)) - two).max() < 1e-4
    assert audio.decode(file(tone()), spec(1600, 2)).shape == (1600, 2)
    with pytest.raises(Invalid, match="3 channels"):
        audio.decode(file(tone(channels=3)), spec(1600, 2))


def test_a_length_that_varies_and_a_rate_that_is_the_files() -> None:
    assert audio.decode(file(tone(0.3)), spec(-1)).shape == (4800,)
    assert audio.decode(file(tone(0.3, 8000), 8000), spec(-1, rate=None)).shape == (2400,)
    assert audio.decode(file(tone()), spec(datatype="FP64")).dtype == np.float64


def test_a_few_samples_more_or_less_are_no_matter() -> None:
    assert audio.decode(file(tone()[:1590]), spec()).shape == (1600,)
    assert audio.decode(file(tone(0.1005)), spec()).shape == (1600,)


GOOD = file(tone())
BAD = {
    "nothing": b"", "text": b"hello", "an image": b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "a header": GOOD[:44], "a cut header": GOOD[:30],
    "another RIFF": b"RIFF\0\0\0\0AVI " + b"\0" * 100, "FLAC of nothing": b"fLaC", "FLAC of noise": b"fLaC" + bytes(range(256)) * 4,
    "an Ogg file": b"OggS" + b"\0" * 100, "too long": file(tone(0.2)), "too short": file(tone(0.05)),
    "no numbers": file(np.array([np.nan] * 1600), subtype="FLOAT"), "a rate of 1": file(tone(), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_or_another_one(name: str) -> None:
    with pytest.raises(Invalid, match="the sound") as found:
        audio.decode(BAD[name], spec())
    assert found.value.errors[0].field == "sound"


def test_much_in_a_small_file() -> None:
    bomb = file(np.zeros(31_000_000, np.int16), kind="FLAC")
    assert len(bomb) < 200_000
    with pytest.raises(TooLarge):
        audio.decode(bomb, spec(-1))
    with pytest.raises(Invalid, match="s long"):
        audio.decode(bomb, spec())
    with pytest.raises(TooLarge):
        audio.decode(file(np.zeros(3_000_000, np.int16), 1000, "FLAC"), spec(-1, rate=48_000))


@given(st.data())
def test_a_file_that_was_changed_is_read_or_refused(data: st.DataObject) -> None:
    made = bytearray(data.draw(st.sampled_from([GOOD, file(tone(), kind="FLAC")])))
    for at in data.draw(st.lists(st.integers(0, len(made) - 1), max_size=6)):
        made[at] = data.draw(st.integers(0, 255))
    try:
        found = audio.decode(bytes(made[: data.draw(st.integers(0, len(made)))]), spec())
    except Invalid:
        return
    assert found.shape == (1600,)
    assert np.isfinite(found).all()


def test_a_service_in_python_can_take_sound() -> None:
    class Loud(Predictor):
        inputs: ClassVar[Any] = {"sound": ("audio", 16_000, 1600)}
        outputs: ClassVar[Any] = {"loud": float}

    assert signature_of(Loud).inputs[0] == spec()
    for wrong in (("audio",), ("audio", 16_000), ("audio", 0, 1600), ("audio", 16_000, 1600, -1)):
        Loud.inputs = {"sound": wrong}
        with pytest.raises(Invalid, match="a sound its rate"):
            signature_of(Loud)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"))
    signature = Signature(
        inputs=(spec(),), outputs=(TensorSpec(name="prediction", datatype="FP32", shape=(-1,)),), task="regression"
    )
    nodes = [bundles.node("ReduceMax", ["sound", "axis"], "prediction", keepdims=0)]
    made.load(bundles.bundle("loud", 1, signature, nodes, {"axis": np.array([1])}), bundles.adder(1))
    yield made
    made.close()
    assert made.log.read_text() == ""


def test_the_body_of_a_request(served: Plane) -> None:
    def post(body: bytes, media: str, service: str = "loud") -> Any:
        return served.client.post(f"/services/{service}/predict", content=body, headers={"content-type": media})

    for body, media in (
        (GOOD, "audio/wav"),
        (file(tone(rate=48_000), 48_000, "FLAC"), "audio/flac"),
        (GOOD, "application/octet-stream"),
    ):
        answer = post(body, media)
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["predictions"]
        assert abs(found["prediction"] - 0.5) < 0.02
    assert post(b"hello", "audio/wav").status_code == 422
    assert post(GOOD, "image/png").status_code == 415
    assert post(GOOD, "audio/wav", "adder").status_code == 415
    assert post(b"x", "video/mp4").status_code == 415
    assert post(file(np.zeros(29_000_000, np.int16), kind="FLAC"), "audio/flac").status_code == 422
    assert served.rows("loud", {"sound": [0.25] * 1600}).json()["predictions"][0]["prediction"] == 0.25
    assert "1600" in served.rows("loud", {"sound": [0.25]}).text
