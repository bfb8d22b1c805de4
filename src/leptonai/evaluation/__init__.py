"""Evaluation: how good a model is, as numbers."""
