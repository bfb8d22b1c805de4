"""Training: an epoch of a small CNN through the platform beside the best loop by hand, and beside trainers of others.

All train the same network on the same images, each beside ours, in turns; the first epoch warms both up, and is not counted.
"""

import argparse
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from _common import publish

from leptonai.sdk import client

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    from data.sets import images

    from training import epochs, nodes

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--part", choices=("all", "epochs", "nodes"), default="all", help="print only a part's ratios")
    asked = parser.parse_args()
    x, y, source = images()
    order = np.random.default_rng(0).permutation(len(x))
    held, rest = order[:5000], order[5000 : 5000 + asked.rows]
    data = {"x": x[rest], "y": y[rest], "vx": x[held], "vy": y[held]}
    ratios: dict[str, float] = {}
    figures: dict[str, Any] = {"data": source}
    with tempfile.TemporaryDirectory() as folder:
        if asked.part != "nodes":
            client.connect(home=Path(folder) / "home")
            try:
                found = epochs.measure(data, Path(folder), asked.epochs)
            finally:
                client.disconnect()
            ratios, figures = {**ratios, **found[0]}, {**figures, **found[1]}
        if asked.part != "epochs" and find_spec("ray") is not None:
            found = nodes.measure(data, Path(folder) / "nodes", asked.epochs)
            ratios, figures = {**ratios, **found[0]}, {**figures, **found[1]}
    if asked.part != "all":
        print(json.dumps({"ratios": ratios, **figures}))
        return
    publish("training", ratios, figures, ("torch", "keras", "numpy", "ray"))


if __name__ == "__main__":
    main()
