"""Exporters print and warn a lot about their own insides. This keeps them quiet while one of them works, and no longer."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_TALKERS = (
    "torch.onnx",
    "torch.export",
    "torch.fx",
    "onnxscript",
    "onnx_ir",
    "tf2onnx",
    "tensorflow",
    "absl",
    "skl2onnx",
    "jax2onnx",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings and log lines of the exporters; what they raise still comes through."""
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
