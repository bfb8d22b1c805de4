"""Adapters of the runtime port."""
