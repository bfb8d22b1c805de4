"""The friendly form: rows as people have them, and image files."""

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import bundles
from tests.support.plane import Plane

ROW = {"age": 41, "city": "oslo", "kids": 2, "floor": 1, "member": True, "seen": "2024-05-31T12:00:00"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"))
    made.load(
        bundles.people(),
        bundles.adder(2),
        bundles.tensors(),
        grey=bundles.picture(),
        colour=bundles.picture(channels=3),
        clear=bundles.picture(channels=4),
    )
    yield made
    made.close()


def test_rows_get_answers_in_their_order(served: Plane) -> None:
    answer = served.rows("people", ROW, {**ROW, "city": "bern"}, {**ROW, "age": 75})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["model"], found["version"]) == ("people", 1)
    assert [one["label"] for one in found["predictions"]] == ["no", "yes", "yes"]
    assert found["predictions"][0]["probabilities"] == pytest.approx({"no": 0.59, "yes": 0.41})


def test_a_regression_gives_a_number(served: Plane) -> None:
    assert served.rows("adder", {"x": 1.5}, {"x": 2}).json()["predictions"] == [
        {"prediction": 2001.5},
        {"prediction": 2002.0},
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"age": None},
        {"age": 0},
        {"city": None},
        {"city": "paris"},
        {"city": ""},
        {"floor": None},
        {"floor": 99},
        {"floor": 1.0},
        {"kids": 2.0},
        {"seen": 0},
        {"seen": "2024-05-31"},
        {"seen": "2024-05-31T12:00:00.123456+02:00"},
        {"seen": "2024-05-31T12:00:00Z"},
    ],
)
def test_values_that_are_taken(served: Plane, change: dict[str, Any]) -> None:
    assert served.rows("people", ROW | change).status_code == 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"age": "41"}, ["column 'age'", "'41'", "number"]),
        ({"age": True}, ["column 'age'", "true"]),
        ({"age": [41]}, ["column 'age'", "a list"]),
        ({"age": {}}, ["column 'age'", "an object"]),
        ({"city": 3}, ["column 'city'", "text"]),
        ({"city": ["oslo"]}, ["column 'city'"]),
        ({"kids": None}, ["column 'kids'", "null"]),
        ({"kids": 1.5}, ["column 'kids'", "1.5"]),
        ({"kids": "2"}, ["column 'kids'"]),
        ({"kids": 2**63}, ["column 'kids'", "64 bits"]),
        ({"kids": 1e30}, ["column 'kids'"]),
        ({"floor": "1"}, ["column 'floor'"]),
        ({"member": 1}, ["column 'member'", "true or false"]),
        ({"member": "yes"}, ["column 'member'"]),
        ({"member": None}, ["column 'member'", "null"]),
        ({"seen": "yesterday"}, ["column 'seen'", "yesterday", "2024-05-31T12:00:00"]),
        ({"seen": None}, ["column 'seen'"]),
        ({"seen": 1.5}, ["column 'seen'"]),
        ({"shoe": 43}, ["column 'shoe'", "not a column"]),
    ],
)
def test_what_is_wrong_is_named_with_its_row(served: Plane, change: dict[str, Any], says: list[str]) -> None:
    answer = served.rows("people", ROW, ROW | change)
    assert answer.status_code == 422
    found = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert "row 2" in found["detail"]
    assert [word for word in says if word not in found["detail"]] == []
    assert found["errors"][0]["field"].startswith("row 2, column")


def test_missing_columns_are_named(served: Plane) -> None:
    answer = served.rows("people", {"age": 1, "town": "x"})
    assert answer.status_code == 422
    for name in ("city", "kids", "floor", "member", "seen", "town"):
        assert f"'{name}'" in str(answer.json()["errors"])


def test_one_wrong_row_does_not_harm_a_neighbour(served: Plane) -> None:
    assert served.rows("adder", {"x": "a"}).status_code == 422
    assert served.rows("adder", {"x": 1}).status_code == 200


@pytest.mark.parametrize(
    ("file", "header"),
    [
        (bundles.image_file("PNG"), "image/png"),
        (bundles.image_file("BMP"), "image/bmp"),
        (bundles.image_file("TIFF"), "application/octet-stream"),
        (bundles.image_file("PNG", mode="RGB", colour=(200, 200, 200)), "image/png"),
        (bundles.image_file("JPEG"), "image/jpeg"),
        (bundles.image_file("GIF"), "image/gif"),
        (bundles.image_file("WEBP", mode="RGB", colour=(200, 200, 200)), "image/webp"),
    ],
)
@pytest.mark.parametrize("service", ["grey", "colour"])
def test_an_image_file_is_the_body(served: Plane, service: str, file: bytes, header: str) -> None:
    answer = served.client.post(f"/services/{service}/predict", content=file, headers={"content-type": header})
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["predictions"]
    assert found["label"] == 1
    assert found["probabilities"]["1"] == pytest.approx(200 / 255, abs=0.02)


def test_an_image_may_stand_in_json(served: Plane) -> None:
    text = base64.b64encode(bundles.image_file()).decode()
    rows = [[[200] * 6] * 4, [[[200]] * 6] * 4, text, f"data:image/png;base64,{text}"]
    answer = served.rows("grey", *({"image": value} for value in rows))
    assert answer.status_code == 200, answer.text
    assert len({str(one) for one in answer.json()["predictions"]}) == 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[200] * 6] * 3, "shape"),
        ([[200] * 5] * 4, "shape"),
        ([[200] * 6, [200]] * 2, "shape"),
        ([[256] * 6] * 4, "255"),
        ([[0.5] * 6] * 4, "whole number"),
        ("not base64!", "base64"),
        ("aGVsbG8=", "cannot be read"),
        (None, "list"),
        (7, "list"),
    ],
)
def test_an_image_in_json_that_is_none(served: Plane, value: Any, says: str) -> None:
    answer = served.rows("grey", {"image": value})
    assert answer.status_code == 422, answer.text
    assert says in answer.json()["detail"]
    assert "row 1, column 'image'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (bundles.image_file(size=(7, 4)), ["7 x 4", "6 x 4"]),
        (b"", ["cannot be read"]),
        (b"GIF89a", ["cannot be read"]),
        (b"<svg/>", ["cannot be read"]),
        (bundles.image_file()[:40], ["cannot be read"]),
        (bundles.image_file("JPEG")[:-30] + b"\0" * 5, []),
        (bundles.image_file(size=(9000, 9000)), ["9000 x 9000"]),
    ],
)
def test_an_image_file_that_cannot_be_used(served: Plane, file: bytes, says: list[str]) -> None:
    answer = served.client.post("/services/grey/predict", content=file, headers={"content-type": "image/png"})
    assert answer.status_code in ((413,) if says == ["9000 x 9000"] else (422,) if says else (200, 422)), answer.text
    assert all(word in answer.text for word in says)


def test_an_image_for_a_model_that_takes_rows(served: Plane) -> None:
    answer = served.client.post("/services/people/predict", content=b"x", headers={"content-type": "image/png"})
    assert answer.status_code == 415
    assert "age" in answer.json()["detail"]
    assert (
        served.client.post(
            "/services/people/predict", content=b"<x/>", headers={"content-type": "text/xml"}
        ).status_code
        == 415
    )


def test_headers_of_an_answer(served: Plane) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    sent = {"x-request-id": "my.id-1", "traceparent": trace}
    answer = served.client.post("/services/adder/predict", json={"rows": [{"x": 1}]}, headers=sent)
    got = answer.headers
    assert (got["x-request-id"], got["traceparent"]) == ("my.id-1", trace)
    assert (got["x-leptonai-model"], got["x-leptonai-version"], got["x-leptonai-variant"]) == ("adder", "2", "stable")
    odd = {"x-request-id": "a b\tc" + "x" * 200, "traceparent": "zz"}
    answer = served.client.post("/services/adder/predict", json={"rows": []}, headers=odd)
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", answer.headers["x-request-id"])
    assert "traceparent" not in answer.headers
    assert answer.headers["x-leptonai-version"] == "2"


def test_curl_that_says_nothing_of_its_body(served: Plane) -> None:
    sent = {"content-type": "application/x-www-form-urlencoded"}
    assert (
        served.client.post("/services/adder/predict", content=b'{"rows": [{"x": 1}]}', headers=sent).status_code == 200
    )


def test_metrics_are_counted(served: Plane) -> None:
    served.rows("adder", {"x": 1})
    for _ in range(3):
        served.rows("tensors", {})
    text = served.client.get("/metrics").text
    assert (
        'leptonai_inference_requests_total{model="tensors",version="1",variant="stable",service="tensors",code="422"} 3'
        in text
    )
    assert 'leptonai_model_load_seconds{model="people",version="1",variant="stable",service="people"} ' in text
    assert 'leptonai_queue_depth{model="adder",version="2",variant="stable",service="adder"} 0' in text
    assert (
        'leptonai_inference_duration_seconds_bucket{model="adder",version="2",variant="stable",service="adder",stage="model",le="+Inf"}'
        in text
    )
    assert "leptonai_batch_size_sum" in text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {line.split("{")[0].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
            for line in text.splitlines() if not line.startswith("#")} <= names  # fmt: skip
