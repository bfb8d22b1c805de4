"""The process of a job that Ray carries out: it asks a cluster for the workers, waits for them, and ends with them."""

import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from leptonai.adapters.executors.forkserver import LOG
from leptonai.adapters.executors.ray import WHY
from leptonai.core import settings
from leptonai.core.errors import LeptonError, Unavailable
from leptonai.core.ranks import Rank
from leptonai.core.stages import load

_ROOM_SECONDS = 600.0  # in which the cluster must have as many processors, such as after a node was lost
_LOOK_SECONDS = 0.5
_KNOCK_SECONDS = 5.0  # for a head that is being started again


def main(payload: dict[str, Any]) -> None:
    """Have Ray Train call ``payload["entry"]`` in each worker, and return when all are done; the exit code is 1 when one failed."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    workers, folder = int(payload["workers"]), Path.cwd()
    try:
        connect(payload["address"], workers)
        gpus = _wait_for_room(workers, payload["address"])
    except LeptonError as error:
        Path(WHY).write_text(error.message, "utf-8")
        sys.exit(error.message)
    trainer = TorchTrainer(
        work,
        train_loop_config={"entry": payload["entry"], "payload": payload["payload"]},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, placement_strategy="SPREAD"),
        # Trying again is the server's: another attempt has another epoch, so that a lost worker cannot write any more.
        run_config=RunConfig(
            name="run", storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=0)
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # noqa: BLE001  # of a library; what matters is that the attempt is over
        print(f"the Ray workers are lost: {' '.join(str(error).split())[:500]}", file=sys.stderr)
        ray.shutdown()
        sys.exit(1)
    ray.shutdown()


def work(config: dict[str, Any]) -> None:
    """Be one worker: called by Ray Train, in a process that Ray started on one of its nodes."""
    from ray import train

    settings.silence_libraries()
    logging.getLogger("httpx").setLevel(
        logging.WARNING
    )  # Ray has everything printed, and what is printed is sent by it
    context = train.get_context()
    rank = Rank(context.get_world_rank(), context.get_world_size())
    above = settings.home() / "ray"  # of this node; beside it is the cache of what was fetched
    above.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=above))
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target in (1, 2):  # what is printed belongs to the Run
        os.dup2(log, target)
    os.close(log)
    os.chdir(folder)
    try:
        load(config["entry"])({**config["payload"], "rank": [*rank]})
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{rank.words} ended with code {end.code} before it was done") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def connect(address: str, workers: int) -> None:
    """Join a cluster, or start one with a processor for each worker. Raises `Unavailable` with what is to be done."""
    import ray

    if address != "local" and settings.variable("RAY_AUTH_MODE") != "token":
        raise Unavailable(
            "a Ray cluster without tokens takes work from anybody who can reach it: start it, and this agent, with RAY_AUTH_MODE=token"
        )
    _knock(address)
    own: dict[str, Any] = {"num_cpus": max(workers, len(os.sched_getaffinity(0)))} if address == "local" else {}
    try:
        ray.init(
            address, include_dashboard=False if own else None, log_to_driver=False, logging_level=logging.WARNING,
            configure_logging=False, **own,
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        short = " ".join(str(error).split())[:300]
        raise Unavailable(f"the head of the Ray cluster {address} cannot be reached: {short}") from None


def _knock(address: str) -> None:
    """See whether anybody is there: Ray itself tries for minutes. Raises `Unavailable`."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + _KNOCK_SECONDS
    while host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > until:
                words = getattr(error, "strerror", None) or str(error)
                raise Unavailable(f"the head of the Ray cluster {address} cannot be reached: {words}") from None
        time.sleep(_LOOK_SECONDS)


def _wait_for_room(workers: int, address: str) -> bool:
    """Return whether the cluster has a GPU for each worker, once it has a processor for each."""
    import ray

    ask: Any = ray.cluster_resources
    until = time.monotonic() + _ROOM_SECONDS
    told = False
    while (have := ask()).get("CPU", 0) < workers:
        if not told:
            print(f"waits for {workers} processors of the Ray cluster, which has {have.get('CPU', 0):g}", flush=True)
            told = True
        if time.monotonic() > until:
            raise Unavailable(
                f"workers={workers}: the Ray cluster {address} has {have.get('CPU', 0):g} processors, and each worker needs one: add "
                "nodes, or use fewer workers"
            )
        time.sleep(_LOOK_SECONDS)
    return bool(have.get("GPU", 0) >= workers)
