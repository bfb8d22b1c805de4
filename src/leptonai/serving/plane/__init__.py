"""The data plane: the process that answers callers."""
