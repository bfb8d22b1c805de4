"""Ray Serve: batches of what is there, without a wait; its throughput mode; no log line a request; no dashboard."""

import logging
import os
import signal
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnxruntime
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

# With BENCH_GUARDED a queue with a limit, as its pages advise: see benchmarks/robustness.py.
QUEUE = {"max_queued_requests": 200} if os.environ.get("BENCH_GUARDED") else {}
QUIET = LoggingConfig(enable_access_log=False, log_level="ERROR")


@serve.deployment(
    num_replicas=int(os.environ["BENCH_WORKERS"]),
    max_ongoing_requests=200,
    **QUEUE,
    ray_actor_options={"num_cpus": 0.5},
)
class Cnn:
    def __init__(self, version: int) -> None:
        self.version = version  # another one is another deployment, whose replicas Ray starts anew
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.0)
    async def compute(self, images: list[np.ndarray]) -> list[list[float]]:
        (scores,) = self.session.run(None, {"image": np.concatenate(images)})
        return scores.tolist()

    async def __call__(self, request: Request) -> dict:
        images = np.array((await request.json())["instances"], np.float32).reshape(-1, 1, 28, 28)
        return {"predictions": [await self.compute(images)]}


if __name__ == "__main__":
    # Another version, as its pages update one: benchmarks/robustness.py asks for it.
    asked: SimpleQueue[int] = SimpleQueue()
    signal.signal(signal.SIGHUP, lambda *_: asked.put(1))
    ray.init(
        include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False, num_cpus=os.cpu_count(),
        _temp_dir=os.environ["BENCH_TEMPORARY"], object_store_memory=100 * 2**20,
    )  # fmt: skip
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(os.environ["BENCH_PORT"])), logging_config=QUIET)
    serve.run(Cnn.bind(0), logging_config=QUIET)
    signal.signal(signal.SIGTERM, lambda *_: (serve.shutdown(), ray.shutdown(), os._exit(0)))
    for number in count(1):
        asked.get()
        serve.run(Cnn.bind(number), logging_config=QUIET)
        (Path(os.environ["BENCH_TEMPORARY"]) / "updated").write_text(str(number))
