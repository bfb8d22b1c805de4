"""Where a PyTorch module looks: what each place of a picture, or each word of a text, adds to one of its outputs, by Captum."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from leptonai.core.errors import MissingExtra

Tensor = torch.Tensor
STEPS = 32  # of the integral
_EXTRA = "where a model looks is told by Captum:  pip install 'lepton-ai-sdk[evaluation]'"


def of_pictures(module: nn.Module, x: Tensor, of: Sequence[int] | None) -> dict[str, Any]:
    """Return a map for each picture, float64 (pictures, height, width), by the method that made it.

    `x`: (pictures, channels, height, width), of which 0 is what nothing looks like; `of`: the class that is explained, None: the value.
    Integrated gradients (Sundararajan, Taly & Yan, ICML 2017) of every module; Grad-CAM (Selvaraju et al., ICCV 2017) of the last
    convolution, where there is one. Raises `MissingExtra`.
    """
    attr = _captum()
    forward = _forward(module, of)
    found = {"integrated gradients": attr.IntegratedGradients(forward).attribute(x, torch.zeros_like(x), n_steps=STEPS)}
    last = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)][-1:]
    for layer in last:
        small = attr.LayerGradCam(forward, layer).attribute(x)
        found["Grad-CAM"] = attr.LayerAttribution.interpolate(small, tuple(x.shape[2:]), "bilinear")
    return {way: np.asarray(map_.detach().sum(1).cpu().double().numpy()) for way, map_ in found.items()}


def of_texts(
    module: Any, texts: Sequence[str], ids: Tensor, of: Sequence[int] | None
) -> list[list[tuple[int, int, float]]] | None:
    """Return, for each text, what each of its words adds: (start, end, share), by integrated gradients of the embedding.

    `ids`: (texts, tokens), -1 behind the end of a shorter text. None for a module whose tokeniser does not say where tokens stand.
    Raises `MissingExtra`.
    """
    embedding = next((layer for layer in module.modules() if isinstance(layer, nn.Embedding)), None)
    reads: Any = getattr(module, "_reads", None)
    if embedding is None or not hasattr(reads, "encode_batch"):
        return None
    attr = _captum()
    nothing = torch.where(ids < 0, ids, torch.zeros_like(ids))
    made = attr.LayerIntegratedGradients(_forward(module, of), embedding).attribute(
        ids, nothing, n_steps=STEPS, internal_batch_size=64
    )
    shares = made.detach().sum(-1).cpu().double().numpy()
    spans = [encoded.offsets for encoded in reads.encode_batch(list(texts))]
    return [_words(text, places, row) for text, places, row in zip(texts, spans, shares, strict=True)]


def _words(text: str, places: Iterable[tuple[int, int]], shares: Any) -> list[tuple[int, int, float]]:
    """Add up the tokens of each word."""
    found = [(at.start(), at.end(), 0.0) for at in re.finditer(r"\S+", text)]
    for (start, end), share in zip(places, shares, strict=False):
        for number, (first, last, so_far) in enumerate(found):
            if start < last and first < end:
                found[number] = (first, last, so_far + float(share))
                break
    return found


def _forward(module: nn.Module, of: Sequence[int] | None) -> Callable[[Tensor], Tensor]:
    """Return a function that gives one number a row: the output of its class. One output speaks for the second of two."""
    given = None if of is None else torch.as_tensor(np.asarray(of, np.int64))

    def forward(x: Tensor) -> Tensor:
        output = module(x)
        output = output.reshape(len(output), -1)
        if given is None:
            return output.sum(1)  # type: ignore[no-any-return]
        wanted = given.to(output.device).repeat(-(-len(output) // len(given)))[: len(output)]
        if output.shape[1] == 1:
            return output[:, 0] * (2 * wanted - 1)  # type: ignore[no-any-return]
        return output.gather(1, wanted[:, None])[:, 0]  # type: ignore[no-any-return]

    return forward


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise MissingExtra(_EXTRA) from error
    return attr
