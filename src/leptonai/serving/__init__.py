"""Serving: a model version that answers."""
