"""Identifiers: sortable by time, unguessable enough not to collide, safe in a path and a URL."""

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return ``prefix_`` and 26 characters: 48 bits of milliseconds and 80 random bits.

    The layout is that of a ULID (https://github.com/ulid/spec). Two ids made by one process sort in the order
    they were made, also within one millisecond and when the clock steps back.
    """
    global _last
    with _lock:
        value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
        if value <= _last:
            value = _last + 1 + secrets.randbits(32)
        _last = value
    digits = []
    for _ in range(26):
        value, digit = divmod(value, 32)
        digits.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"
