"""The limits of the machine: the bare runtime on all cores, and what the load generator costs beside it."""

import contextlib
import sys
import time
from pathlib import Path

from _host import undisturbed

from serving import load, process

HERE = Path(__file__).parent
BATCHES = (8, 16, 32, 64)


def images_per_second(model: Path, processes: int, threads: int, batch: int, seconds: float, folder: Path) -> float:
    """Return how many images so many processes compute together, each with so many threads, in batches of one size."""
    return undisturbed(lambda: _images(model, processes, threads, batch, seconds, folder))


def _images(model: Path, processes: int, threads: int, batch: int, seconds: float, folder: Path) -> float:
    arguments = [str(model), str(threads), str(batch), str(seconds), str(time.time() + 1.5)]
    command = [sys.executable, str(HERE / "bare_runtime.py"), *arguments]
    logs = [folder / f"limit-{index}.log" for index in range(processes)]
    servers = [process.Server(command, log, {}, folder) for log in logs]
    try:
        until = time.monotonic() + seconds + 30
        while any(server.runs for server in servers) and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        for server in servers:
            server.close()
    return sum(float(log.read_text().split()[-1]) for log in logs)


def best(model: Path, seconds: float, folder: Path) -> tuple[int, int, int]:
    """Return with how many processes, threads in each, and images in a batch all cores compute the most images."""
    cores = load.cores()
    ways = [(p, t, batch) for p, t in dict.fromkeys(((cores, 1), (1, cores))) for batch in BATCHES]
    rates = {way: images_per_second(model, *way, seconds, folder) for way in ways}
    return max(rates, key=lambda way: rates[way])


def echo(request: load.Request, seconds: float, folder: Path) -> load.Load:
    """Return what the load generator sees, and what it costs, with a server that answers at once."""
    port = process.free_port()
    base = f"http://127.0.0.1:{port}"
    with process.running(
        [sys.executable, str(HERE / "echo_server.py"), str(port)], folder / "echo.log", {}, folder
    ) as it:
        it.first_answer(base, request)
        return load.run(base, request, 64, seconds)


def bare_protocol(model: Path, request: load.Request, seconds: float, folder: Path) -> load.Load:
    """Return what a server reaches that does nothing but its work (`bare_protocol.py`), one process for each core."""
    port = process.free_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(HERE / "bare_protocol.py"), str(port), str(model)]
    with contextlib.ExitStack() as open:
        for index in range(load.cores()):
            it = open.enter_context(process.running(command, folder / f"bare-{index}.log", {}, folder))
            it.first_answer(base, request)
        time.sleep(1.0)  # until the last of them listens, too
        return load.run(base, request, 64, seconds)


def beside(rate: float, cost: float) -> float:
    """Return the images a second that are left when the load generator, which needs `cost` seconds of a core for each, has
    its share of the same cores: 1 / (1 / rate + cost / cores).
    """
    return 1 / (1 / rate + cost / load.cores())
