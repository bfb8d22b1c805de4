"""BentoML: async, one model thread a worker; with BENCH_BATCHING its adaptive batching, else none."""

import os

import bentoml
import numpy as np
import onnxruntime

LOGGING = {"access": {"enabled": False}}
# With BENCH_GUARDED what its pages offer against overload: see benchmarks/robustness.py.
TRAFFIC = {"timeout": 30, **({"max_concurrency": 64} if os.environ.get("BENCH_GUARDED") else {})}


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]), logging=LOGGING, traffic=TRAFFIC, metrics={"enabled": False})
class Cnn:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    if os.environ.get("BENCH_BATCHING"):

        @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
        async def predict(self, instances: np.ndarray) -> np.ndarray:
            (scores,) = self.session.run(None, {"image": instances.astype(np.float32).reshape(-1, 1, 28, 28)})
            return scores

    else:

        @bentoml.api
        async def predict(self, instances: list[list[float]]) -> list[list[float]]:
            images = np.array(instances, np.float32).reshape(-1, 1, 28, 28)
            (scores,) = self.session.run(None, {"image": images})
            return scores.tolist()
