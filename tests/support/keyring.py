"""A keyring in memory, for tests of sealed stores that are not about where keys are kept."""

from leptonai.core.errors import NotFound
from leptonai.core.ports import DataKey


class MemoryKeyring:
    """A `Keyring` that forgets with its process. `bound` tells what was said of each blob: (size, digest)."""

    def __init__(self) -> None:
        self.keys: dict[str, DataKey] = {}
        self.bound: dict[str, tuple[int, str]] = {}

    def bind(self, blob: str, key: DataKey, size: int, plain: str) -> None:
        self.keys[blob] = key
        self.bound[blob] = (size, plain)

    def find(self, blob: str) -> DataKey:
        if blob not in self.keys:
            raise NotFound(f"there is no key for blob {blob}")
        return self.keys[blob]
