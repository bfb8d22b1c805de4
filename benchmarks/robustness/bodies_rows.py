"""Rows 1, 2, 3 and 5: what bodies say that they should not say."""

import json
from collections import Counter
from dataclasses import replace

from robustness import corpus, wire
from robustness.product import Product, Request, Watch
from robustness.report import Found, nothing

_PLACES = (b"line", b"column", b"char", b"position", b"byte", b"data", b"instances", b"inputs", b"image")
_QUICK = 0.05  # seconds
_HANGS = 5  # after so many a row is given up


def malformed(product: Product) -> Found:
    """Row 1."""
    seen: Counter[str] = Counter()
    traces, examples = 0, dict[str, str]()
    for body in corpus.malformed(product.good.bodies[0]):
        said = wire.ask(product.base, product.good, body)
        kind = _kind(said.status)
        seen[kind] += 1
        trace = b"Traceback" in said.body or b'File \\"' in said.body or b'File "' in said.body
        traces += trace
        if kind != "4xx" or trace:
            examples.setdefault(kind, f"{body[:40]!r}… {len(body)} bytes: {said.status} {said.body[:150]!r}")
        if said.status < 0:
            product.revive()
            if seen["hang"] + seen["gone"] > _HANGS:
                break
    alive = product.works() is not None
    short = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))
    short += f", {traces} tracebacks" if traces else ""
    green = alive and seen["4xx"] == corpus.COUNT and not traces
    return Found(green, short, {"counts": dict(seen), "tracebacks": traces, "alive": alive, "examples": examples})


def numbers(product: Product) -> Found:
    """Row 2."""
    refused, named, invalid = 0, 0, 0
    answers: dict[str, str] = {}
    odd = corpus.numbers(product.good.bodies[0])
    for name, body in odd.items():
        said = wire.ask(product.base, product.good, body)
        refused += said.refused
        named += said.refused and any(place in said.body for place in _PLACES)
        if said.status == 200 and not _strict(said.body):
            invalid += 1
        answers[name] = f"{said.status} {said.body[:120].decode(errors='replace')}"
    accepted = sum(answer.startswith("200") for answer in answers.values())
    short = f"{refused} of {len(odd)} refused, {named} with the place" + (f", {accepted} accepted" if accepted else "")
    short += f", {invalid} answers are no JSON" if invalid else ""
    green = refused == named == len(odd)
    return Found(
        green,
        short,
        {"refused": refused, "named": named, "accepted": accepted, "invalid_json": invalid, "answers": answers},
    )


def nested(product: Product) -> Found:
    """Row 3. The quickest of three tries counts: the machine does other things too."""
    figures: dict[str, object] = {}
    green, parts = True, []
    for depth in (1_000, 100_000, 2_000_000):
        body = corpus.nested(product.good.bodies[0], depth)
        tries = [wire.ask(product.base, product.good, body) for _ in range(3)]
        best = min(tries, key=lambda said: said.seconds)
        after = product.works()
        worst = next((said.status for said in tries if not said.refused), best.status)
        next_ms = None if after is None else round(after * 1000, 1)
        figures[f"{depth:g}"] = {"status": worst, "ms": round(best.seconds * 1000, 1), "next_ms": next_ms}
        green = green and all(said.refused for said in tries) and best.seconds < _QUICK and after is not None
        parts.append(f"{_word(worst)} in {best.seconds * 1000:.0f} ms")
        if after is None:
            parts.append("gone")
            product.revive()
    with Watch(product) as watch:
        wire.ask(product.base, product.good, corpus.nested(product.good.bodies[0], 2_000_000))
    product.revive()
    return Found(green, ", ".join(parts), {**figures, "rss_mb": watch.grew})


def huge(product: Product) -> Found:
    """Row 5."""
    if "/v2/" not in product.good.path:
        return nothing("no V2 protocol")
    statuses: Counter[str] = Counter()
    examples: dict[str, str] = {}
    bodies = [(product.good, body) for body in corpus.huge_shapes(product.good.bodies[0])]
    if product.binary is not None:
        bodies += _binary(product.binary)
    with Watch(product) as watch:
        for request, body in bodies:
            said = wire.ask(product.base, request, body)
            statuses[_kind(said.status)] += 1
            if not said.refused:
                examples[f"{body[:100]!r}"] = f"{said.status} {said.body[:120]!r}"
    alive = product.works() is not None
    if not alive:
        product.revive()
    short = ", ".join(f"{count} {kind}" for kind, count in sorted(statuses.items())) + f", {watch.grew:+.0f} MB"
    green = alive and statuses["4xx"] == len(bodies) and watch.grew < 16
    return Found(green, short, {"counts": dict(statuses), "rss_mb": watch.grew, "alive": alive, "examples": examples})


def _binary(request: Request) -> list[tuple[Request, bytes]]:
    """Return requests of the binary extension that claim more than they bring."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    size = int(headers["inference-header-content-length"])
    head, tail = json.loads(request.bodies[0][:size]), request.bodies[0][size:]
    found = []
    for shape, claimed in (
        ([10**9, 1, 28, 28], len(tail)),
        ([1, 1, 28, 28], 10**12),
        ([2**60, 1, 28, 28], 2**62),
        ([1, 1, 28, 28], 4),
    ):
        tensor = {**head["inputs"][0], "shape": shape, "parameters": {"binary_data_size": claimed}}
        text = json.dumps({**head, "inputs": [tensor]}).encode()
        told = {**headers, "inference-header-content-length": str(len(text))}
        found.append((replace(request, headers=told), text + tail))
    for length in ("99999999999", "-1", "1e3", "7"):
        found.append(
            (replace(request, headers={**headers, "inference-header-content-length": length}), request.bodies[0])
        )
    return found


def _strict(body: bytes) -> bool:
    def refuse(_: str) -> None:
        raise ValueError

    try:
        json.loads(body, parse_constant=refuse)
    except ValueError:
        return False
    return True


def _kind(status: int) -> str:
    return {0: "hung up", -1: "hang", -2: "gone"}.get(status) or f"{status // 100}xx"


def _word(status: int) -> str:
    return {0: "hung up", -1: "no answer", -2: "nobody there"}.get(status, str(status))
