"""``python -m leptonai.server``."""

import sys

from leptonai.server.main import main

sys.exit(main(sys.argv[1:]))
