"""Which build of the serving plane is installed."""

from importlib.util import find_spec


def build() -> str:
    """Return "compiled" where what a request passes through is machine code, as in a wheel for this platform; else "pure"."""
    spec = find_spec("leptonai.serving.plane.http")
    return "pure" if spec is None or (spec.origin or "").endswith(".py") else "compiled"
