"""KServe's model server: V1 and V2 of its protocols, no log line a request; gRPC where a port is given; one model thread a worker."""

import os

import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Cnn(Model):
    def __init__(self) -> None:
        super().__init__("cnn")
        self.session: onnxruntime.InferenceSession | None = None
        self.ready = True

    def __getstate__(self) -> dict:
        return {**self.__dict__, "session": None}  # a worker is sent the model, and loads its own

    def compute(self, images: np.ndarray) -> np.ndarray:
        if self.session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            providers = ["CPUExecutionProvider"]
            self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=providers)
        return self.session.run(None, {"image": images})[0]

    async def predict(self, payload, headers=None, response_headers=None):  # noqa: ARG002
        if isinstance(payload, InferRequest):
            scores = self.compute(payload.inputs[0].as_numpy())
            binary = bool(payload.use_binary_outputs)
            found = InferOutput("scores", list(scores.shape), "FP32")
            found.set_data_from_numpy(scores, binary_data=binary)
            return InferResponse(
                payload.id, "cnn", [found], use_binary_outputs=binary, requested_outputs=payload.request_outputs
            )
        images = np.array(payload["instances"], np.float32).reshape(-1, 1, 28, 28)
        return {"predictions": self.compute(images).tolist()}


if __name__ == "__main__":
    grpc_port = int(os.environ.get("BENCH_GRPC_PORT", "0"))
    ModelServer(
        http_port=int(os.environ["BENCH_PORT"]), workers=int(os.environ["BENCH_WORKERS"]),
        enable_grpc=grpc_port > 0, grpc_port=grpc_port or 8081, enable_latency_logging=False, event_loop="uvloop",
    ).start([Cnn()])  # fmt: skip
