"""Training: an epoch of a small CNN through the platform beside the best loop by hand, and beside trainers of others.

All train the same network on the same images, an epoch at a time, in turns; the first epoch warms everybody up, and is not counted.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import publish

from leptonai.sdk import client

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    from data.sets import images

    from training import epochs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    x, y, source = images()
    order = np.random.default_rng(0).permutation(len(x))
    held, rest = order[:5000], order[5000 : 5000 + asked.rows]
    data = {"x": x[rest], "y": y[rest], "vx": x[held], "vy": y[held]}
    with tempfile.TemporaryDirectory() as folder:
        client.connect(home=Path(folder) / "home")
        try:
            ratios, figures = epochs.measure(data, Path(folder), asked.epochs)
        finally:
            client.disconnect()
    publish("training", ratios, {"data": source, **figures}, ("torch", "keras", "numpy"))


if __name__ == "__main__":
    main()
