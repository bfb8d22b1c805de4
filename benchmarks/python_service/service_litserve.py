"""LitServe: the sum of 784 numbers, in batches of what is there where BENCH_BATCHING is set."""

import os

import litserve
import numpy as np

BATCHING = bool(os.environ.get("BENCH_BATCHING"))


class Total(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict) -> np.ndarray:
        found = np.array(request["instances"], np.float32)
        return found[0] if BATCHING else found

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=1)

    def unbatch(self, sums: np.ndarray) -> list[np.ndarray]:
        return [sums[i : i + 1] for i in range(len(sums))]

    def encode_response(self, sums: np.ndarray) -> dict:
        return {"predictions": sums.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Total(max_batch_size=64 if BATCHING else 1, batch_timeout=0.0), accelerator="cpu", workers_per_device=1,
        track_requests=False, fast_queue=True, disable_openapi_url=True,
    )  # fmt: skip
    server.run(
        host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), num_api_servers=1, log_level="error",
        generate_client_file=False, access_log=False,
    )  # fmt: skip
