"""``python -m leptonai.agent``: the agent of a Site."""

from leptonai.agent.main import main

main()
