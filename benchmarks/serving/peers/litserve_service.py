"""LitServe: with BENCH_BATCHING batches of what is there, without a wait, else none; one model thread a worker."""

import os

import litserve
import numpy as np
import onnxruntime

BATCHING = bool(os.environ.get("BENCH_BATCHING"))
# What its pages offer against large bodies and dead workers: see benchmarks/robustness.py.
GUARDS = {"max_payload_size": "16MB", "restart_workers": True} if os.environ.get("BENCH_GUARDED") else {}
HOST = {} if os.environ.get("BENCH_QUICKSTART") else {"host": "127.0.0.1"}


class Cnn(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict) -> np.ndarray:
        image = np.array(request["instances"], np.float32)
        return image.reshape(1, 28, 28) if BATCHING else image.reshape(1, 1, 28, 28)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, images: np.ndarray) -> np.ndarray:
        (scores,) = self.session.run(None, {"image": images})
        return scores

    def unbatch(self, scores: np.ndarray) -> list[np.ndarray]:
        return list(scores)

    def encode_response(self, scores: np.ndarray) -> dict:
        return {"predictions": scores.reshape(-1, 10).tolist()}


if __name__ == "__main__":
    workers = int(os.environ["BENCH_WORKERS"])
    server = litserve.LitServer(
        Cnn(max_batch_size=64 if BATCHING else 1, batch_timeout=0.0), accelerator="cpu", workers_per_device=workers, track_requests=False,
        fast_queue=bool(os.environ.get("BENCH_FAST_QUEUE")), disable_openapi_url="BENCH_QUICKSTART" not in os.environ, **GUARDS,
    )  # fmt: skip
    server.run(
        **HOST, port=int(os.environ["BENCH_PORT"]), num_api_servers=workers, log_level="error",
        generate_client_file=False, access_log=False,
    )  # fmt: skip
