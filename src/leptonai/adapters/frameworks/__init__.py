"""Adapters of the framework port."""
