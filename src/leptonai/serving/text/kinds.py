"""Which tasks are tasks of text, and what computes each."""

RUNTIMES = {"chat": "llamacpp", "embedding": "encoder"}  # task -> the name of its `TextRuntime`
