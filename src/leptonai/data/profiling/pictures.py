"""Images that look alike, by a perceptual hash: what remains of one when only its coarse light and dark is kept.

The hash is pHash: the 64 lowest frequencies of a cosine transform of the image in 32 x 32 grey, each above their median or not. Small
changes (scale, compression, light) move few of its bits.
"""

from typing import Any

import numpy as np

NEAR = 6  # bits of 64 in which the hashes of two near-duplicates may differ
MOST = 20_000  # images that are compared, each with each
_SIDE = 32
_EXAMPLES = 10


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """Return the hashes (rows,), uint64, of images (rows, height, width, channels), uint8."""
    from PIL import Image
    from scipy.fft import dctn

    small = np.empty((len(images), _SIDE, _SIDE), "float32")
    for at, image in enumerate(images):
        grey = image[..., :3].mean(axis=2).astype("uint8") if image.shape[2] > 1 else image[..., 0]
        small[at] = np.asarray(Image.fromarray(grey).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
    low = dctn(small, axes=(1, 2))[:, :8, :8].reshape(len(images), 64)
    above = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8").ravel().astype(np.uint64)


def alike(hashes: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Return how many images have a near-duplicate among those before, and the nearest pairs of rows (from 1)."""
    near, pairs = 0, []
    for at in range(0, len(hashes), 512):
        some = hashes[at : at + 512]
        apart = np.bitwise_count(some[:, None] ^ hashes[None, : at + len(some)])
        apart = np.where(np.arange(at + len(some))[None, :] < (at + np.arange(len(some)))[:, None], apart, 65)
        least = apart.min(axis=1, initial=65)
        close = np.flatnonzero(least <= NEAR)
        near += len(close)
        for place in close[np.argsort(least[close], kind="stable")][:_EXAMPLES].tolist():
            other = int(apart[place].argmin())
            pairs.append((int(least[place]), int(rows[other]) + 1, int(rows[at + place]) + 1))
    shown = [{"rows": [one, other], "bits": bits} for bits, one, other in sorted(pairs)[:_EXAMPLES]]
    return {"looked_at": len(hashes), "images": near, "examples": shown}
