"""``python -m leptonai.cli`` is ``lepton``. Ctrl-C is one line from the start on, also while modules are still being loaded."""

import os
import sys


def main() -> None:
    """Run what the command line says."""
    try:
        from leptonai.cli.main import main as run
    except KeyboardInterrupt:
        print("lepton: stopped", file=sys.stderr)
        # Not sys.exit: where Ctrl-C fell into code that a module makes from text, as dataclasses do, CPython has noted it as
        # unhandled, and `python -m` would die of the signal in place of ending with 1.
        sys.stderr.flush()
        os._exit(1)
    run()


if __name__ == "__main__":
    main()
