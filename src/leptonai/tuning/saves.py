"""Checkpoints of the trials that are at work, kept together: a Run has one checkpoint, and several trials may be at work."""

from collections.abc import Mapping

from leptonai.core.stages import Handle


class Saves:
    """What the trials of a study saved, by trial. Those of an earlier attempt are read at first use."""

    def __init__(self, handle: Handle):
        self._handle = handle
        self._files: dict[int, dict[str, bytes]] | None = None

    def save(self, number: int, files: Mapping[str, bytes]) -> None:
        """Keep what a trial saved, in place of what it saved before."""
        found = self._read()
        found[number] = dict(files)
        self._handle.save({f"trial-{n}.{name}": data for n, of in found.items() for name, data in of.items()})

    def of(self, number: int) -> dict[str, bytes]:
        """Return what a trial saved last; empty where it saved nothing."""
        return dict(self._read().get(number, {}))

    def drop(self, number: int) -> None:
        """Forget those of a trial that ended; they go with the next that is saved."""
        if self._files is not None:
            self._files.pop(number, None)

    def _read(self) -> dict[int, dict[str, bytes]]:
        if self._files is None:
            self._files = {}
            for name, data in (self._handle.restore() or {}).items():
                trial, _, file = name.partition(".")
                self._files.setdefault(int(trial.removeprefix("trial-")), {})[file] = data
        return self._files
