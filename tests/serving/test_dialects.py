"""The other ways in: KServe's V1, MLflow's and SageMaker's /invocations, and Triton's own client, unchanged."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.support import bundles
from tests.support.plane import Plane

PERSON = {"age": 60.0, "city": "bern", "kids": 1, "floor": 0, "member": True, "seen": 0}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"))
    made.load(bundles.adder(1), bundles.people())
    yield made
    made.close()
    assert made.log.read_text() == ""


def call(served: Plane, body: Any, service: str = "people", media: str = "application/json") -> Any:
    content = body if isinstance(body, str) else json.dumps(body)
    headers = {"content-type": media, "x-leptonai-service": service}
    return served.client.post("/invocations", content=content, headers=headers)


def test_kserve_v1(served: Plane) -> None:
    def predict(name: str, body: Any) -> Any:
        return served.client.post(f"/v1/models/{name}:predict", json=body)

    assert predict("adder", {"instances": [1, 2.5]}).json() == {"predictions": [1001.0, 1002.5]}
    assert predict("adder", {"instances": [{"x": 1}]}).json() == {"predictions": [1001.0]}
    assert predict("people", {"instances": [PERSON, list(PERSON.values())]}).json() == {"predictions": ["yes", "yes"]}
    assert served.client.get("/v1/models/adder").json()["ready"] is True
    listed = served.client.get("/v1/models").json()
    assert sorted(listed["models"]) == ["adder", "people"]
    assert {one["id"] for one in listed["data"]} == {"adder", "people"}
    assert served.client.get("/v1/models/nobody").status_code == 404
    for body in ({}, {"instances": []}, {"instances": "x"}, {"instances": [[1, 2]]}, {"instances": [1], "more": 1}):
        answer = predict("people", body)
        assert (answer.status_code, list(answer.json())) == (400, ["error"]), answer.text
    assert "age, city, kids" in predict("people", {"instances": [[1, 2]]}).json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [PERSON]},
        {"dataframe_split": {"columns": list(PERSON), "data": [list(PERSON.values())]}},
        {"dataframe_split": {"index": [0], "columns": list(PERSON)[::-1], "data": [list(PERSON.values())[::-1]]}},
        {"instances": [PERSON]},
        {"inputs": {name: [value] for name, value in PERSON.items()}},
        {"inputs": [PERSON], "params": {}},
    ],
)
def test_every_form_of_a_data_frame(served: Plane, body: dict[str, Any]) -> None:
    assert call(served, body).json() == {"predictions": ["yes"]}


def test_csv(served: Plane) -> None:
    text = 'age,city,kids,floor,member,seen\r\n60,bern,1,0,true,0\r\n,"oslo",1,0,0,0\r\n'
    assert call(served, text, media="text/csv").json() == {"predictions": ["yes", "no"]}
    assert call(served, "x\n1\n2.5\n", "adder", "text/csv; charset=utf-8").json() == {"predictions": [1001.0, 1002.5]}


@pytest.mark.parametrize(
    ("body", "media", "says"),
    [
        ("x\n", "text/csv", "at least one row"),
        ("x,x\n1,2\n", "text/csv", "twice"),
        ("x\n1,2\n", "text/csv", "row 1 has 2 fields"),
        ("x\none\n", "text/csv", "row 1, column 'x'"),
        ("y\n1\n", "text/csv", "'x' is missing"),
        ('x\n"1\n', "text/csv", "not CSV"),
        ({"dataframe_split": {"columns": ["x"]}}, "application/json", "dataframe_split"),
        ({"dataframe_split": {"columns": ["x"], "data": [[1], [1, 2]]}}, "application/json", "row 2"),
        ({"dataframe_split": {"columns": ["x", "x"], "data": [[1, 2]]}}, "application/json", "different names"),
        ({"inputs": {"x": [1], "y": [1, 2]}}, "application/json", "one length"),
        ({"inputs": {}}, "application/json", "one length"),
        ({"rows": [{"x": 1}]}, "application/json", "dataframe_records"),
        ({"instances": [1], "inputs": [1]}, "application/json", "one of"),
        ({"instances": [1], "params": {"a": 1}}, "application/json", "params"),
        ("[1]", "application/json", "one of"),
        ("x", "application/xml", "text/csv"),
    ],
)
def test_what_is_wrong_is_said(served: Plane, body: Any, media: str, says: str) -> None:
    answer = call(served, body, "adder", media)
    assert 400 <= answer.status_code < 500
    assert says in answer.json()["detail"], answer.text


def test_a_path_without_a_name_needs_to_know_which(served: Plane) -> None:
    answer = served.client.post("/invocations", json={"instances": [1]})
    assert answer.status_code == 404
    assert "adder, people" in answer.json()["detail"]
    assert call(served, {"instances": [1]}, "nobody").status_code == 404
    assert served.client.get("/ping").status_code == 200


def test_the_index_says_what_is_ready(served: Plane) -> None:
    for body in ("", "{}", '{"ready": true}', '{"ready": false}'):
        answer = served.client.post("/v2/repository/index", content=body)
        assert {one["name"] for one in answer.json()} == {"adder", "people"}
    for body in ("[]", '{"ready": 1}', '{"state": "READY"}', "x"):
        assert served.client.post("/v2/repository/index", content=body).status_code == 400
    for path in ("/v2/models/adder/what", "/v2/models/adder/versions", "/v2/models/adder/versions/1/what/more"):
        assert served.client.get(path).status_code == 404


def test_tritons_client(served: Plane) -> None:
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("adder")
        assert client.get_model_metadata("adder")["inputs"][0]["name"] == "x"
        assert {one["name"] for one in client.get_model_repository_index()} == {"adder", "people"}
        config = client.get_model_config("adder", "1")
        assert (config["name"], config["input"][0]["data_type"], config["input"][0]["dims"]) == (
            "adder",
            "TYPE_FP64",
            [-1],
        )
        for call in (client.load_model, client.unload_model):
            with pytest.raises(Exception, match="a key is needed"):
                call("adder")
        for raw in (True, False):
            x = http.InferInput("x", [3], "FP64")
            x.set_data_from_numpy(np.array([1.0, 2.0, 0.5]), binary_data=raw)
            found = client.infer("adder", [x], outputs=[http.InferRequestedOutput("prediction", binary_data=raw)])
            assert found.as_numpy("prediction").tolist() == [1001.0, 1002.0, 1000.5]
            assert client.infer("adder", [x]).as_numpy("prediction").tolist() == [1001.0, 1002.0, 1000.5]
        inputs = []
        kinds = {"age": "FP64", "city": "BYTES", "kids": "INT64", "floor": "INT64", "member": "BOOL", "seen": "INT64"}
        for name, kind in kinds.items():
            tensor = http.InferInput(name, [2], kind)
            given: Any = [PERSON[name]] * 2
            array = np.array(given, object) if kind == "BYTES" else np.array(given)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        found = client.infer("people", inputs, request_id="abc", timeout=5_000_000)
        assert found.as_numpy("label").tolist() == [b"yes", b"yes"]
        assert found.as_numpy("probabilities").shape == (2, 2)
        assert found.get_response()["id"] == "abc"
        stats = client.get_inference_statistics("people")["model_stats"]
        assert stats[0]["inference_stats"]["success"]["count"] > 0
        assert stats[0]["inference_count"] >= stats[0]["execution_count"] > 0
        every = client.get_inference_statistics(headers={"Authorization": "Bearer test"})["model_stats"]
        assert {one["name"] for one in every} == {"adder", "people"}
        with pytest.raises(Exception, match="nobody"):
            client.infer("nobody", inputs, headers={"Authorization": "Bearer test"})
