"""Contract tests, one class for each port: every adapter, ours or yours, must pass them."""
