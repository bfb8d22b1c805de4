"""The Open Inference Protocol, as its text says."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support import bundles
from tests.support.plane import Plane

TENSORS = [
    {"name": "b", "datatype": "BOOL", "shape": [2], "data": [True, False]},
    {"name": "u", "datatype": "UINT8", "shape": [2], "data": [0, 255]},
    {"name": "i", "datatype": "INT64", "shape": [2], "data": [-(2**63), 2**63 - 1]},
    {"name": "f", "datatype": "FP32", "shape": [2], "data": [0.1, -3]},
    {"name": "d", "datatype": "FP64", "shape": [2], "data": [0.1, 1e300]},
    {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["", 'é\U0001f600\0"\\']},
    {"name": "grid", "datatype": "FP32", "shape": [2, 2, 3], "data": [float(i) for i in range(12)]},
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"))
    made.load(bundles.tensors(), bundles.adder(3), bundles.people())
    yield made
    made.close()


def infer(plane: Plane, model: str, body: Any, version: str = "") -> httpx.Response:
    return plane.client.post(f"/v2/models/{model}{version}/infer", json=body)


def test_what_the_server_says_of_itself(served: Plane) -> None:
    answer = served.client.get("/v2")
    assert answer.status_code == 200
    assert answer.json().keys() == {"name", "version", "extensions"}
    assert served.client.get("/v2/health/live").json() == {"live": True}
    assert served.client.get("/v2/health/ready").json() == {"ready": True}


def test_what_it_says_of_a_model(served: Plane) -> None:
    answer = served.client.get("/v2/models/adder").json()
    assert answer == {
        "name": "adder",
        "versions": ["3"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}],
        "outputs": [{"name": "prediction", "datatype": "FP32", "shape": [-1]}],
    }
    assert served.client.get("/v2/models/adder/versions/3").json() == answer
    assert served.client.get("/v2/models/adder/ready").json() == {"name": "adder", "ready": True}
    assert served.client.get("/v2/models/adder/versions/3/ready").status_code == 200


@pytest.mark.parametrize("path", ["/v2/models/none", "/v2/models/adder/versions/4", "/v2/models/adder/versions/x/ready",
                                  "/v2/models/none/ready", "/v2/models", "/v2/models/adder/else", "/v2/else"])  # fmt: skip
def test_what_is_not_there(served: Plane, path: str) -> None:
    answer = served.client.get(path)
    assert answer.status_code == 404
    assert answer.json().keys() == {"error"}


@pytest.mark.parametrize("path", ["/v2/models/none/infer", "/v2/models/adder/versions/4/infer"])
def test_no_inference_where_there_is_no_model(served: Plane, path: str) -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1]}]}
    answer = served.client.post(path, json=body)
    assert answer.status_code == 404
    assert answer.json().keys() == {"error"}


def test_every_datatype_goes_in_and_comes_out(served: Plane) -> None:
    answer = infer(served, "tensors", {"id": "a-1", "inputs": TENSORS})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("tensors", "1", "a-1")
    assert [o["name"] for o in found["outputs"]] == [f"{t['name']}_out" for t in TENSORS]
    for given, output in zip(TENSORS, found["outputs"], strict=True):
        assert output == {**given, "name": output["name"]}


def test_nested_data_is_the_same_as_flat(served: Plane) -> None:
    grid = [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    nested = [*TENSORS[:-1], {**TENSORS[-1], "data": grid}]
    flat = infer(served, "tensors", {"inputs": TENSORS}).json()["outputs"]
    assert infer(served, "tensors", {"inputs": nested}).json()["outputs"] == flat


def test_only_the_outputs_that_are_asked_for(served: Plane) -> None:
    answer = infer(served, "tensors", {"inputs": TENSORS, "outputs": [{"name": "s_out"}, {"name": "b_out"}]}).json()
    assert {o["name"] for o in answer["outputs"]} == {"s_out", "b_out"}
    assert "id" not in answer
    assert len(infer(served, "tensors", {"inputs": TENSORS, "outputs": []}).json()["outputs"]) == len(TENSORS)


def test_order_of_the_inputs_does_not_matter_and_a_version_may_be_named(served: Plane) -> None:
    body = {"inputs": TENSORS[::-1]}
    assert infer(served, "tensors", body, "/versions/1").status_code == 200


def test_a_missing_number_is_null(served: Plane) -> None:
    answer = infer(served, "adder", {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1, None]}]})
    assert answer.json()["outputs"][0]["data"] == [3001.0, None]


def test_binary_data_is_refused_by_name_and_false_is_taken(served: Plane) -> None:
    off = {
        "parameters": {"binary_data_output": False},
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1], "parameters": {"binary_data": False}}],
        "outputs": [{"name": "prediction", "parameters": {"binary_data": False}}],
    }
    assert infer(served, "adder", off).status_code == 200
    off["inputs"][0]["parameters"] = {"binary_data_size": 8}  # type: ignore[index]
    answer = infer(served, "adder", off)
    assert answer.status_code == 400
    assert "binary_data_size" in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"datatype": "FP32"}, "FP64"),
        ({"datatype": None}, "FP64"),
        ({"shape": [2]}, "holds 1 values"),
        ({"shape": [1, 1]}, "shape"),
        ({"shape": []}, "shape"),
        ({"shape": [-1]}, "shape"),
        ({"shape": [1.0]}, "shape"),
        ({"shape": [True]}, "shape"),
        ({"shape": "1"}, "shape"),
        ({"shape": [0], "data": []}, "nothing"),
        ({"shape": [2**62], "data": [1]}, "whole numbers"),
        ({"shape": [2**40], "data": [1]}, "holds 1 values"),
        ({"data": None}, "list"),
        ({"data": ["1"]}, "text"),
        ({"data": [True]}, "true"),
        ({"data": [[1]]}, "a number is needed"),
        ({"data": [{}]}, "an object"),
        ({"data": {}}, "list"),
        ({"data": [[1], 2]}, "shape"),
        ({"name": "y"}, "inputs are x"),
        ({"name": 7}, "inputs are x"),
        ({"extra": 1}, "extra"),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"content_type": "np"}}, "content_type"),
    ],
)
def test_a_wrong_tensor_is_named(served: Plane, change: dict[str, Any], says: str) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]} | change
    answer = infer(served, "adder", {"inputs": [tensor]})
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("u", [0, 256], "element 1"),
        ("u", [-1, 0], "255"),
        ("u", [2**70, 0], "255"),
        ("i", [0, 2**63], "element 1"),
        ("i", [0, 1.5], "whole number"),
        ("i", [0, None], "null"),
        ("f", [0, 1e39], "float32"),
        ("b", [0, 1], "true or false"),
        ("s", ["a", 1], "text"),
        ("s", ["a", None], "null"),
    ],
)
def test_a_value_that_does_not_fit_its_datatype(served: Plane, name: str, data: list[Any], says: str) -> None:
    inputs = [{**tensor, "data": data} if tensor["name"] == name else tensor for tensor in TENSORS]
    answer = infer(served, "tensors", {"inputs": inputs})
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]
    assert f"'{name}'" in answer.json()["error"]


def test_inputs_of_different_lengths_twice_and_missing(served: Plane) -> None:
    short = [{**TENSORS[0], "shape": [1], "data": [True]}, *TENSORS[1:]]
    assert "different numbers of rows" in infer(served, "tensors", {"inputs": short}).json()["error"]
    assert "twice" in infer(served, "tensors", {"inputs": [*TENSORS, TENSORS[0]]}).json()["error"]
    assert "'grid' is missing" in infer(served, "tensors", {"inputs": TENSORS[:-1]}).json()["error"]
    assert "outputs" in infer(served, "tensors", {"inputs": TENSORS, "outputs": [{"name": "b"}]}).json()["error"]
    assert "'id'" not in infer(served, "tensors", {"inputs": TENSORS, "id": 7}).json()["error"]


def test_words_of_the_protocol_for_a_classifier(served: Plane) -> None:
    columns = {"age": ("FP64", 20.0), "city": ("BYTES", "bern"), "kids": ("INT64", 1), "floor": ("INT64", 2),
               "member": ("BOOL", True), "seen": ("INT64", 0)}  # fmt: skip
    inputs = [{"name": n, "datatype": t, "shape": [1], "data": [v]} for n, (t, v) in columns.items()]
    outputs = infer(served, "people", {"inputs": inputs}).json()["outputs"]
    assert outputs[0] == {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["yes"]}
    assert outputs[1] == {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 1.0]}
