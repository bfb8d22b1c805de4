"""FastAPI with ONNX Runtime, tuned by hand: async, orjson, uvloop, no pydantic, no access log, one model thread a process."""

import os

import numpy as np
import onnxruntime
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI(openapi_url=None)
GUARDED = bool(os.environ.get("BENCH_GUARDED"))  # with a limit of connections: see benchmarks/robustness.py


@app.post("/predict")
async def predict(request: Request) -> Response:
    rows = orjson.loads(await request.body())["instances"]
    images = np.array(rows, np.float32).reshape(-1, 1, 28, 28)
    (scores,) = session.run(None, {"image": images})
    answer = orjson.dumps({"predictions": scores}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(answer, media_type="application/json")


@app.post("/bytes")
async def raw(request: Request) -> Response:
    images = np.frombuffer(await request.body(), np.float32).reshape(-1, 1, 28, 28)
    (scores,) = session.run(None, {"image": images})
    return Response(scores.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(
        "fastapi_service:app", host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), loop="uvloop", http="httptools",
        workers=int(os.environ["BENCH_WORKERS"]), access_log=False, log_level="error",
        limit_concurrency=512 if GUARDED else None,
    )  # fmt: skip
