"""The agent: the process at a Site that asks the server for work."""
