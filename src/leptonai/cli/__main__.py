"""``python -m leptonai.cli`` is ``lepton``. Ctrl-C is one line from the start on, also while modules are still being loaded."""

import sys


def main() -> None:
    """Run what the command line says."""
    try:
        from leptonai.cli.main import main as run
    except KeyboardInterrupt:
        print("lepton: stopped", file=sys.stderr)
        sys.exit(1)
    run()


if __name__ == "__main__":
    main()
