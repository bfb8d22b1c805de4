"""Writes the ONNX file as an MLflow model, with one model thread; `mlflow models serve` serves it. Run once before."""

import sys

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

if __name__ == "__main__":
    image = Schema([TensorSpec(np.dtype(np.float32), (-1, 1, 28, 28), "image")])
    scores = Schema([TensorSpec(np.dtype(np.float32), (-1, 10), "scores")])
    mlflow.onnx.save_model(
        onnx.load(sys.argv[1]), sys.argv[2], signature=ModelSignature(inputs=image, outputs=scores),
        onnx_execution_providers=["CPUExecutionProvider"], onnx_session_options={"intra_op_num_threads": 1},
        pip_requirements=["onnxruntime"],
    )  # fmt: skip
