"""MLServer: a runtime of one's own, which is how it serves ONNX; its adaptive batching with the shortest wait it takes."""

import asyncio
import json
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import uvloop
from mlserver import MLModel, MLServer
from mlserver.cli.serve import load_settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Cnn(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        (scores,) = self.session.run(None, {"image": images})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])


def settings(folder: Path) -> None:
    batching = {"max_batch_size": 64, "max_batch_time": 0.0001} if os.environ.get("BENCH_BATCHING") else {}
    model = {"name": "cnn", "implementation": "mlserver_service.Cnn", **batching}
    (folder / "model-settings.json").write_text(json.dumps(model))
    free = {"grpc_port": int(os.environ["BENCH_PORT"]) + 1, "metrics_port": int(os.environ["BENCH_PORT"]) + 2}
    server = {
        "debug": False, "host": "127.0.0.1", "http_port": int(os.environ["BENCH_PORT"]), **free, "metrics_endpoint": None,
        "parallel_workers": int(os.environ["BENCH_WORKERS"]), "gzip_enabled": False,
    }  # fmt: skip
    if os.environ.get("BENCH_QUICKSTART"):
        del server["host"], server["metrics_endpoint"]
    (folder / "settings.json").write_text(json.dumps(server))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings(Path(folder))
        server_settings, models = await load_settings(folder)
        server = MLServer(server_settings)
        logging.disable(logging.WARNING)
        await server.start(models)


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main())
