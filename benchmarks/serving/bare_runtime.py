"""ONNX Runtime alone: how many images a second one process computes. Started by limit.py, several at once."""

import sys
import time

import numpy as np
import onnxruntime


def main(model: str, threads: str, batch: str, seconds: str, at: str) -> None:
    """Compute for some seconds from a moment on, so that all processes do at once; print images a second."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: np.random.default_rng(0).random((int(batch), 1, 28, 28), np.float32)}
    for _ in range(20):
        session.run(None, inputs)
    time.sleep(max(0.0, float(at) - time.time()))
    start, count = time.perf_counter(), 0
    while (took := time.perf_counter() - start) < float(seconds):
        session.run(None, inputs)
        count += int(batch)
    print(count / took)


if __name__ == "__main__":
    main(*sys.argv[1:])
