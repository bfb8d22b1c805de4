"""leptonai reads the same rows, encrypted, through `dataset.torch()`: in a process of its own, from a server that runs already."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from timed import SIZE, tell


def main() -> None:
    kind, order, home = sys.argv[1:]
    import torch  # noqa: F401  # imports are not measured

    import leptonai.sdk.torch_batches  # noqa: F401
    from leptonai.data import loader_pack, reader  # noqa: F401
    from leptonai.sdk import client
    from leptonai.sdk.datasets import get_dataset

    client.connect(home=home)
    found = get_dataset(kind)
    tell(lambda: found.torch(SIZE, shuffle=order == "shuffled"), 2 if order == "shuffled" else 1)
    client.disconnect()


if __name__ == "__main__":
    main()
