"""The registry: immutable model versions and their aliases."""
