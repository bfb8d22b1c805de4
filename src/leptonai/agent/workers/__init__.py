"""Processes that compute versions which have no ONNX file: their code is loaded only there."""
