"""Answers that a plane remembers, where the service wants that; through a real plane."""

import re
import time
from types import SimpleNamespace
from typing import Any

import httpx
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.serving.plane.remembered import Answers, digest
from leptonai.serving.plane.writer import Written
from leptonai.serving.table import COLD, UNLOADED, Line, Share


def hit(answer: httpx.Response) -> bool:
    assert answer.status_code == 200, answer.text
    return answer.headers.get("x-leptonai-cache") == "hit"


def metric(plane: Plane, name: str) -> float:
    text = plane.client.get("/metrics").text
    return sum(float(found) for found in re.findall(rf"^{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE))


def served(plane: Plane, most: int = 1 << 20, **more: Any) -> Line:
    plane.load(bundles.adder(1))
    line = Line.one("adder", plane.table["adder"], True)._replace(answers=most, **more)
    plane.process.change([line], [bundles.adder(1)[0]] if line.absent else [])
    return line


def test_off_nothing_is_remembered(plane: Plane) -> None:
    plane.load(bundles.adder(1))
    assert not any(hit(plane.rows("adder", {"x": 1})) for _ in range(3))
    assert "leptonai_response_cache_hits_total{" not in plane.client.get("/metrics").text


def test_the_same_request_gets_the_same_answer(plane: Plane) -> None:
    served(plane)
    first, second = plane.rows("adder", {"x": 1}), plane.rows("adder", {"x": 1})
    assert (hit(first), hit(second)) == (False, True)
    assert first.content == second.content
    assert first.headers["x-leptonai-version"] == second.headers["x-leptonai-version"] == "1"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert not hit(plane.rows("adder", {"x": 2}))
    # The same body to another path is another question.
    body = {"instances": [1.0]}
    assert not hit(plane.client.post("/v1/models/adder:predict", json=body))
    assert hit(plane.client.post("/v1/models/adder:predict", json=body))
    wrong = [plane.rows("adder", {"x": "no number"}).status_code for _ in range(2)]
    assert wrong == [422, 422]  # what failed is not remembered
    assert metric(plane, "leptonai_response_cache_hits_total") == 2
    assert metric(plane, "leptonai_response_cache_misses_total") == 5
    assert metric(plane, "leptonai_inference_requests_total") == 7
    assert metric(plane, "leptonai_response_cache_bytes") > 0


def test_another_version_and_several_versions(plane: Plane) -> None:
    line = served(plane)
    assert plane.rows("adder", {"x": 1}).json()["predictions"] == [{"prediction": 1001.0}]
    two = bundles.adder(2)
    plane.process.load(*two)
    both = line._replace(variants=(Share("stable", line.models[0], 50), Share("canary", two[0].id, 50)), salt="s")
    plane.process.change([both])
    assert not any(hit(plane.rows("adder", {"x": 1})) for _ in range(8))
    plane.process.change([line._replace(variants=(Share("stable", two[0].id),))])
    answer = plane.rows("adder", {"x": 1})
    assert not hit(answer)
    assert answer.json()["predictions"] == [{"prediction": 2001.0}]
    assert hit(plane.rows("adder", {"x": 1}))


def test_what_is_known_is_answered_without_its_model(plane: Plane) -> None:
    line = served(plane)
    assert not hit(plane.rows("adder", {"x": 1}))
    model = bundles.adder(1)[0].model_copy(update={"id": line.models[0]})
    plane.process.change([line._replace(absent=COLD)], [model])
    assert hit(plane.rows("adder", {"x": 1}))
    plane.process.change([line._replace(absent=UNLOADED)], [model])
    assert plane.rows("adder", {"x": 1}).status_code == 503
    text = plane.client.get("/metrics").text
    assert 'leptonai_model_evictions_total{process="0",reason="memory"} 1' in text
    assert 'leptonai_model_loads_total{process="0"} 1' in text
    assert 'leptonai_model_waiting{process="0"} 0' in text


def test_it_is_bounded_and_what_was_asked_last_stays() -> None:
    answers = Answers(10_000)
    for number in range(50):
        answers.keep(b"%d" % number, Written(b"x" * 700))
        assert answers.recall(b"0", b"") is not None
        assert answers.bytes <= answers.most
    assert answers.recall(b"1", b"") is None
    answers.keep(b"large", Written(b"x" * 9000))
    assert answers.recall(b"large", b"") is None
    answers.resize(1000)
    assert answers.bytes <= 1000
    answers.resize(0)
    assert answers.bytes == 0


def test_what_tells_requests_apart() -> None:
    def of(model: str = "m", how: object = len, body: bytes = b"b", **headers: bytes) -> bytes:
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        return digest(model, how, SimpleNamespace(headers=named, body=body))  # type: ignore[arg-type]

    several = [
        of(), of("n"), of(how=max), of(body=b"c"), of(content_type=b"b"), of(inference_header_content_length=b"b"),
        of(content_type=b"a", inference_header_content_length=b"b"), of(content_type=b"ab"), of("bm", content_type=b"a"),
        of("m", content_type=b"ab", inference_header_content_length=b""),
    ]  # fmt: skip
    assert len(set(several)) == len(several) - 1
    assert of(x_request_id=b"1") == of(x_request_id=b"2")
    start = time.perf_counter()
    for _ in range(1000):
        of(body=bytes(10_000))
    assert time.perf_counter() - start < 5  # a digest, no parsing
