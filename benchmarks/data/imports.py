"""Files in: a CSV of a million rows beside polars writing plain Parquet; memory and time up to ten million."""

import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import psutil

import leptonai
from leptonai.sdk import client


def csv(path: Path, rows: int, columns: int) -> Path:
    """Write numbers, piece by piece."""
    import polars

    rng = np.random.default_rng(rows)
    with path.open("wb") as file:
        for at in range(0, rows, 250_000):
            values = rng.normal(size=(min(250_000, rows - at), columns)).round(5)
            frame = polars.DataFrame(values, schema=[f"c{i:02}" for i in range(columns)])
            frame.write_csv(file, include_header=at == 0)
    return path


POLARS = "import polars,sys,time;t=time.perf_counter();polars.read_csv(sys.argv[1]).write_parquet(sys.argv[2]);print(time.perf_counter()-t)"


def polars_seconds(python: str, path: Path) -> float:
    """Return how long polars takes to read the file and write it as Parquet, in a process of its own, without its start."""
    out = path.with_suffix(".polars.parquet")
    done = subprocess.run([python, "-c", POLARS, str(path), str(out)], check=True, capture_output=True, text=True)
    out.unlink()
    return float(done.stdout)


def our_seconds(path: Path, name: str) -> float:
    """Return how long it takes until the version is there: upload, Run, and the record."""
    began = time.perf_counter()
    leptonai.create_dataset(name, files=path, target="")
    took = time.perf_counter() - began
    leptonai.get_dataset(name).delete()
    return took


class Peak:
    """The most memory that any one process of the server has had at a time (RSS, bytes)."""

    def __enter__(self) -> "Peak":
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.05):
            for child in me.children(recursive=True):
                try:
                    self.bytes = max(self.bytes, child.memory_info().rss)
                except psutil.Error:
                    continue


def grown(folder: Path, counts: tuple[int, ...], columns: int = 6) -> tuple[dict[int, float], float]:
    """Return the seconds of imports of so many rows, the best of two each, and the peak of the largest in GiB."""
    seconds: dict[int, float] = {}
    peak = 0.0
    client.current().http.call("GET", "/me")
    for count in counts:
        path = csv(folder / f"{count}.csv", count, columns)
        with Peak() as seen:
            seconds[count] = min(our_seconds(path, f"grown-{count}") for _ in range(2 if count < 5_000_000 else 1))
        peak = max(peak, seen.bytes / 2**30)
        path.unlink()
    return seconds, peak
