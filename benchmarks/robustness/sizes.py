"""Row 4: more than a server should take, and lengths that are not true."""

from collections.abc import Iterator

from robustness import wire
from robustness.product import Product, Request, Watch
from robustness.report import Found

MB = 1_000_000
_PIECE = b'{"rows":[' + b" " * (1 << 20)
_SOON = 6.0  # seconds in which there has to be an answer


def oversize(product: Product) -> Found:
    """Row 4. A body of a true length may be refused at any time; one that never ends must be."""
    good = product.good
    tries: dict[str, Iterator[bytes]] = {
        "100 MB": _body(good, 100 * MB),
        "1 GB": _body(good, 1000 * MB),
        "length too long": iter([wire.head(good.path, good.headers, 10**10), good.bodies[0]]),
        "length no number": iter([_lying(good, "1_0"), good.bodies[0]]),
        "length negative": iter([_lying(good, "-5"), good.bodies[0]]),
        "chunked without end": _endless(good),
        "2 MB header": iter([_with(good, [("X-Big", "a" * 2_000_000)]), good.bodies[0]]),
        "10,000 headers": iter([_with(good, [(f"X-{i}", "a" * 10) for i in range(10_000)]), good.bodies[0]]),
    }
    figures, bad = {}, []
    for name, pieces in tries.items():
        with Watch(product) as watch:
            said = wire.stream(product.base, pieces, seconds=_SOON, after=2.0)
            after = product.works()
        early = said.sent < 64 * MB
        # A length that is no length may be hung up on; what is too large is to be told so.
        fine = (
            (said.refused or (said.status == 0 and not name.endswith("MB") and name != "1 GB"))
            and early
            and watch.grew < 64
        )
        figures[name] = {"status": said.status, "seconds": round(said.seconds, 2), "sent_mb": round(said.sent / MB, 1),
                         "rss_mb": watch.grew, "next_ms": None if after is None else round(after * 1000, 1)}  # fmt: skip
        if not fine or after is None:
            bad.append(f"{name}: {said.status}, {watch.grew:+.0f} MB")
        if after is None:
            product.revive()
    most = max(figure["rss_mb"] for figure in figures.values())
    return Found(not bad, "; ".join(bad) or f"all refused, {most:+.0f} MB at most", figures)


def _body(good: Request, size: int) -> Iterator[bytes]:
    yield wire.head(good.path, good.headers, size)
    for _ in range(size // len(_PIECE) + 1):
        yield _PIECE


def _endless(good: Request) -> Iterator[bytes]:
    yield wire.head(good.path, good.headers, None)
    for _ in range(400):
        yield b"%x\r\n%s\r\n" % (len(_PIECE), _PIECE)


def _lying(good: Request, length: str) -> bytes:
    return wire.head(good.path, good.headers, 0).replace(b"Content-Length: 0", f"Content-Length: {length}".encode())


def _with(good: Request, more: list[tuple[str, str]]) -> bytes:
    return wire.head(good.path, {**good.headers, **dict(more)}, len(good.bodies[0]))
