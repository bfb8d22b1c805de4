"""``python -m leptonai.serving.plane``: started by the agent of a Site."""

from leptonai.serving.plane.main import main

main()
