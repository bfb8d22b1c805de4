"""``python -m leptonai.cli`` is ``lepton``."""

from leptonai.cli.main import main

main()
