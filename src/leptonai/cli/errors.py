"""How a command fails: one clear sentence on stderr, the fields that are wrong below it, and an exit code."""

import sys

from leptonai.core.errors import LeptonError

FAILED = 1


def say(error: LeptonError) -> None:
    """Write the sentence, and what is wrong with each field unless the sentence says it already."""
    lines = [f"lepton: {error.message}"]
    lines += [f"  {e.field}: {e.message}" for e in error.errors if e.message not in error.message]
    if error.retry_after:
        lines.append(f"  try again in {error.retry_after:g} s")
    print("\n".join(lines), file=sys.stderr)


def sentence(error: BaseException) -> str:
    """Return one sentence for an error that is not ours; `--debug` shows where it came from."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    detail = str(error).splitlines()[0] if str(error) else "no details"
    return f"unexpected {type(error).__name__}: {detail} (`lepton --debug …` shows where; please report it)"
