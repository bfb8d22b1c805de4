"""Robustness side by side: the same attacks on leptonai and on other model servers, all on this machine.

The rows are those of a comparison of peers: bad bodies, bad sizes, slow clients, killed processes, updates, exposure, fuzz,
overload. Each product is started as its pages say, attacked, and looked at; what has no counterpart in a product is n/a.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from _common import publish
from robustness import bodies_rows, exposure, fuzz, kills, ours, overload, results, sizes, slow
from robustness.peers import CONFIGURATIONS
from robustness.product import Product, Theirs, running
from robustness.report import ROWS, Found
from robustness.table import show
from serving.peers_list import PEERS

from serving import bodies, cnn

OURS = "leptonai"
HEAVY_ROWS = (19,)


def main() -> None:
    given = _given()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="leptonai-bench-") as folder:
        bench = Bench(given, Path(folder))
        bench.run()
    show(bench.found, given.rows)
    seen = {name: {str(row): cell.to_dict() for row, cell in cells.items()} for name, cells in bench.found.items()}
    whole = not given.only and tuple(given.rows) == tuple(ROWS)
    kept = {} if whole else results.read()
    table = results.merged(kept.get("table", {}), seen)
    run = {
        "products": sorted(seen), "rows": given.rows, "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": bench.load, "load_after": round(os.getloadavg()[0], 1), "took_s": round(time.perf_counter() - start),
        "options": {name: value for name, value in vars(given).items() if name not in ("only", "rows", "debug", "keep")},
    }  # fmt: skip
    figures = {
        "targets": {str(row): {"test": test, "target": target} for row, (test, target) in ROWS.items()},
        "table": table,
        "runs": [*kept.get("runs", ()), run],
    }
    ratios = {f"row_{row}_green": float(cell["verdict"] == "green") for row, cell in table.get(OURS, {}).items()}
    if whole or given.keep:
        publish("robustness", ratios, figures, ("onnxruntime", "uvloop", "httptools", "numpy"))
    else:
        print(json.dumps({"bench": "robustness", "ratios": ratios, "figures": figures}))


class Bench:
    """One run. `found`: by product and configuration, by row."""

    def __init__(self, given: argparse.Namespace, folder: Path):
        self.given = given
        self.folder = folder
        self.found: dict[str, dict[int, Found]] = {}
        self.load = round(os.getloadavg()[0], 1)

    def run(self) -> None:
        """Attack everything that takes part."""
        us = ours.Home(self.folder)
        us.train()
        images = np.ascontiguousarray(cnn.images(bodies.TURNS)[0])
        if self._takes("ours"):
            self._product(
                OURS, self.given.rows, lambda heavy: ours.Leptonai(us, images, ours.HEAVY if heavy else "cnn")
            )
        for peer in PEERS:
            if not self._takes(peer.name):
                continue
            for configuration in CONFIGURATIONS[peer.name]:
                rows = [row for row in self.given.rows if row in configuration.rows]
                variant = configuration.variant

                def make(heavy: bool, peer=peer, variant=variant) -> Product:  # type: ignore[no-untyped-def]
                    place = self.folder / f"{peer.name}-{'heavy' if heavy else 'cnn'}"
                    place.mkdir(exist_ok=True)
                    model = us.heavy if heavy else us.model
                    return Theirs(peer, variant, images, model, place, self.folder / f"{peer.name}.log")

                self._product(f"{peer.title}, {configuration.name}", rows, make)

    def _takes(self, name: str) -> bool:
        return not self.given.only or name in self.given.only

    def _product(self, name: str, rows: list[int], make: Callable[[bool], Product]) -> None:
        cells = self.found.setdefault(name, {})
        for heavy in (False, True):
            wanted = [row for row in ORDER if row in rows and (row in HEAVY_ROWS) is heavy]
            if not wanted:
                continue
            try:
                with running(make(heavy)) as product:
                    for row in wanted:
                        cells[row] = self._row(name, row, product)
            except Exception as error:
                self._say(f"{name}: {type(error).__name__}: {str(error)[:300]}")

    def _row(self, name: str, row: int, product: Product) -> Found:
        start = time.perf_counter()
        try:
            found = self._do(row, product)
        except Exception as error:
            if self.given.debug:
                raise
            found = Found(False, f"{type(error).__name__}: {str(error)[:100]}")
            product.revive()
        self._say(f"{name}: row {row}: {found.word}: {found.short} ({time.perf_counter() - start:.1f} s)")
        return found

    def _do(self, row: int, product: Product) -> Found:
        given = self.given
        match row:
            case 1:
                return bodies_rows.malformed(product)
            case 2:
                return bodies_rows.numbers(product)
            case 3:
                return bodies_rows.nested(product)
            case 4:
                return sizes.oversize(product)
            case 5:
                return bodies_rows.huge(product)
            case 6:
                return slow.slowloris(product, given.connections, given.slow_seconds)
            case 7:
                return kills.workers(product, given.kill_seconds, given.kill_every)
            case 8:
                return kills.main_process(product)
            case 9:
                return kills.updates(product, given.updates, given.restarts)
            case 12:
                return exposure.exposure(product)
            case 18:
                return fuzz.fuzz(product, given.fuzz_seconds)
            case _:
                return overload.overload(product, given.overload_seconds)

    def _say(self, text: str) -> None:
        print(f"robustness: {text}", file=sys.stderr, flush=True)


ORDER = (12, 1, 2, 3, 5, 4, 18, 6, 7, 9, 8, 19)  # the quiet ones first


def _given() -> argparse.Namespace:
    known = ["ours", *(it.name for it in PEERS)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        default="",
        help=f"a comma-separated choice of {', '.join(known)}; nothing is written then, see --keep",
    )
    parser.add_argument(
        "--rows", default=",".join(map(str, ROWS)), help="a comma-separated choice of rows; nothing is written then"
    )
    parser.add_argument("--connections", type=int, default=500, help="slow clients of each kind (row 6)")
    parser.add_argument("--slow-seconds", type=float, default=20.0, help="how long they go on (row 6)")
    parser.add_argument("--kill-seconds", type=float, default=10.0, help="how long workers are killed (row 7)")
    parser.add_argument("--kill-every", type=float, default=3.0, help="seconds between kills (row 7)")
    parser.add_argument("--updates", type=int, default=20, help="rolling updates (row 9)")
    parser.add_argument("--restarts", type=int, default=2, help="restarts of who cannot roll (row 9)")
    parser.add_argument("--fuzz-seconds", type=float, default=20.0, help="how long Schemathesis may take (row 18)")
    parser.add_argument(
        "--overload-seconds", type=float, default=6.0, help="how long five times the load lasts (row 19)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="write what was chosen, beside what the result file has of the others"
    )
    parser.add_argument("--debug", action="store_true", help="end with the first error of the benchmark itself")
    given = parser.parse_args()
    given.only = [name for name in given.only.split(",") if name]
    if wrong := [name for name in given.only if name not in known]:
        parser.error(f"there is no {wrong[0]!r}; known are {', '.join(known)}")
    try:
        given.rows = [int(row) for row in given.rows.split(",")]
    except ValueError:
        given.rows = [0]
    if wrong_rows := [row for row in given.rows if row not in ROWS]:
        parser.error(f"there is no row {wrong_rows[0]}; known are {', '.join(map(str, ROWS))}")
    return given


if __name__ == "__main__":
    main()
