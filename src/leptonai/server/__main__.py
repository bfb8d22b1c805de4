"""``python -m leptonai.server``."""

import gc
import sys

gc.disable()  # until the server answers: looking for garbage while modules load costs a fifth of the start, and finds none

from leptonai.server.main import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
