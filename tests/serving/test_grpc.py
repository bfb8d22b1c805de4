"""The Open Inference Protocol over gRPC, asked by Triton's own client, unchanged, and by gRPC's."""

import hashlib
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.support import bundles
from tests.support.plane import Plane
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from leptonai.serving.plane.grpc import messages
from leptonai.serving.table import Line

KEY = {"authorization": "Bearer test"}
KINDS = {"age": "FP64", "city": "BYTES", "kids": "INT64", "floor": "INT64", "member": "BOOL", "seen": "INT64"}
PERSON = {"age": 60.0, "city": "bern", "kids": 1, "floor": 0, "member": True, "seen": 0}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"), grpc=True)
    made.load(bundles.adder(1), bundles.people())
    one = [hashlib.sha256(b"one").hexdigest(), "one", ["adder"], None]
    made.process.keys([[hashlib.sha256(b"test").hexdigest(), "test", ["*"], None], one])
    made.process.route([Line.one("adder", made.table["adder"], True), Line.one("people", made.table["people"])])
    yield made
    made.close()
    assert made.log.read_text() == ""


@pytest.fixture
def client(served: Plane) -> Iterator[Any]:
    with triton.InferenceServerClient(served.grpc_url) as made:
        yield made


def x_of(*values: float, shape: list[int] | None = None) -> Any:
    made = triton.InferInput("x", shape or [len(values)], "FP64")
    return made.set_data_from_numpy(np.array(values, float)) if shape is None else made


def people(count: int = 2) -> list[Any]:
    made = []
    for name, kind in KINDS.items():
        given: Any = [PERSON[name]] * count
        made.append(
            triton.InferInput(name, [count], kind).set_data_from_numpy(
                np.array(given, object) if kind == "BYTES" else np.array(given)
            )
        )
    return made


def code_of(call: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(InferenceServerException) as found:
        call(*args, **more)
    assert "Traceback" not in str(found.value)
    return str(found.value.status()).removeprefix("StatusCode.")


def test_what_there_is(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("adder")
    assert client.is_model_ready("adder", "1")
    assert client.get_server_metadata(as_json=True)["name"] == "leptonai"
    found = client.get_model_metadata("people", headers=KEY, as_json=True)
    assert [(one["name"], one["datatype"], one["shape"]) for one in found["inputs"]][:2] == [
        ("age", "FP64", ["-1"]),
        ("city", "BYTES", ["-1"]),
    ]
    assert found["outputs"][1]["shape"] == ["-1", "2"]
    config = client.get_model_config("adder").config
    assert (config.name, config.input[0].data_type, list(config.input[0].dims)) == ("adder", 12, [-1])
    assert {one.name for one in client.get_model_repository_index(headers=KEY).models} == {"adder", "people"}
    (found,) = client.get_inference_statistics("adder").model_stats
    assert (found.name, found.version) == ("adder", "1")
    assert len(client.get_inference_statistics(headers=KEY).model_stats) == 2


def test_tensors_as_raw_bytes(client: Any) -> None:
    for _ in range(3):  # the second of a form is read by what was learnt of the first
        assert client.infer("adder", [x_of(1, 2.5)]).as_numpy("prediction").tolist() == [1001.0, 1002.5]
    found = client.infer("people", people(), request_id="abc", headers=KEY, timeout=5_000_000)
    assert found.as_numpy("label").tolist() == [b"yes", b"yes"]
    assert found.as_numpy("probabilities").shape == (2, 2)
    answer = found.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("abc", "people", "1")
    only = [triton.InferRequestedOutput("probabilities")]
    some = client.infer("people", people(1), outputs=only, headers=KEY)
    assert some.as_numpy("label") is None
    assert some.as_numpy("probabilities").shape == (1, 2)


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_packed_messages(client: Any, how: str) -> None:
    found = client.infer("adder", [x_of(*range(5000))], compression_algorithm=how)
    assert found.as_numpy("prediction")[-1] == 5999.0


def test_a_large_request_and_a_large_answer(client: Any) -> None:
    values = np.arange(1_500_000, dtype=np.float64)
    tensor = triton.InferInput("x", [len(values)], "FP64").set_data_from_numpy(values)
    found = client.infer("adder", [tensor]).as_numpy("prediction")
    assert np.array_equal(found, (values + 1000).astype(found.dtype))


def typed(*inputs: Any, **more: Any) -> Any:
    return service_pb2.ModelInferRequest(model_name="adder", inputs=inputs, **more)


def tensor(**more: Any) -> Any:
    return service_pb2.ModelInferRequest.InferInputTensor(**{"name": "x", "datatype": "FP64", "shape": [2], **more})


def ask(served: Plane, request: Any, **more: Any) -> Any:
    with grpc.insecure_channel(served.grpc_url) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda given: given if isinstance(given, bytes) else given.SerializeToString(),
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        return call.with_call(request, timeout=20, **more)


def test_tensors_as_lists(served: Plane) -> None:
    answer, call = ask(served, typed(tensor(contents={"fp64_contents": [1, 2]})))
    assert list(answer.outputs[0].contents.fp32_contents) == [1001, 1002]
    assert not answer.raw_output_contents
    said = dict(call.trailing_metadata())
    assert said["x-leptonai-model"] == "adder"
    assert said["x-leptonai-version"] == "1"
    assert said["x-leptonai-variant"] == "stable"
    assert said["x-request-id"]
    _, call = ask(served, typed(tensor(contents={"fp64_contents": [1, 2]})), metadata=(("x-request-id", "mine"),))
    assert dict(call.trailing_metadata())["x-request-id"] == "mine"
    contents: dict[str, Any] = {
        "age": {"fp64_contents": [60]}, "city": {"bytes_contents": [b"bern"]}, "kids": {"int64_contents": [1]},
        "floor": {"int64_contents": [0]}, "member": {"bool_contents": [True]}, "seen": {"int64_contents": [0]},
    }  # fmt: skip
    inputs = [{"name": name, "datatype": KINDS[name], "shape": [1], "contents": contents[name]} for name in KINDS]
    request = service_pb2.ModelInferRequest(model_name="people", inputs=inputs, id="7")
    answer, _ = ask(served, request, metadata=tuple(KEY.items()))
    assert list(answer.outputs[0].contents.bytes_contents) == [b"yes"]
    assert answer.id == "7"


BAD: dict[str, Any] = {
    "no message": b"\xff\xff\xff",
    "nothing": typed(),
    "no data": typed(tensor()),
    "empty contents": typed(tensor(contents={})),
    "too few": typed(tensor(contents={"fp64_contents": [1]})),
    "another list": typed(tensor(contents={"fp32_contents": [1, 2]})),
    "two lists": typed(tensor(contents={"fp64_contents": [1, 2], "int64_contents": [1]})),
    "raw too short": typed(tensor(), raw_input_contents=[b"1234567"]),
    "raw too long": typed(tensor(), raw_input_contents=[b"1" * 17]),
    "both": typed(tensor(contents={"fp64_contents": [1, 2]}), raw_input_contents=[b"1" * 16]),
    "two raw for one": typed(tensor(), raw_input_contents=[b"1" * 16] * 2),
    "huge": typed(tensor(shape=[2**62]), raw_input_contents=[b"1" * 16]),
    "huge and more": typed(tensor(shape=[2**62, 2**62]), raw_input_contents=[b"1" * 16]),
    "negative": typed(tensor(shape=[-1]), raw_input_contents=[b""]),
    "none": typed(tensor(shape=[0]), raw_input_contents=[b""]),
    "axes": typed(tensor(shape=[1] * 100_000), raw_input_contents=[b"1" * 8]),
    "another type": typed(tensor(datatype="FP32"), raw_input_contents=[b"1" * 8]),
    "another name": typed(tensor(name="y"), raw_input_contents=[b"1" * 16]),
    "twice": typed(tensor(), tensor(), raw_input_contents=[b"1" * 16] * 2),
    "an output": typed(tensor(contents={"fp64_contents": [1, 2]}), outputs=[{"name": "nothing"}]),
}


def test_bad_tensors_are_told_and_harm_nothing(served: Plane) -> None:
    for name, request in BAD.items():
        with pytest.raises(grpc.RpcError) as found:
            ask(served, request)
        assert found.value.code() is grpc.StatusCode.INVALID_ARGUMENT, (name, found.value)
        assert len(found.value.details()) > 15, name
    with pytest.raises(grpc.RpcError, match="sequence_id") as found:
        parameters = {"sequence_id": service_pb2.InferParameter(int64_param=7)}
        ask(served, typed(tensor(contents={"fp64_contents": [1, 2]}), parameters=parameters))
    assert found.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert ask(served, typed(tensor(contents={"fp64_contents": [1, 2]})))[0].outputs


def test_each_error_has_its_code(client: Any, served: Plane) -> None:
    assert code_of(client.infer, "people", people()) == "UNAUTHENTICATED"
    assert code_of(client.infer, "people", people(), headers={"authorization": "Bearer one"}) == "PERMISSION_DENIED"
    assert code_of(client.infer, "nobody", [x_of(1)]) == "UNAUTHENTICATED"
    assert code_of(client.infer, "nobody", [x_of(1)], headers=KEY) == "NOT_FOUND"
    assert code_of(client.infer, "adder", [x_of(1)], model_version="9") == "NOT_FOUND"
    assert code_of(client.get_model_metadata, "nobody", headers=KEY) == "NOT_FOUND"
    assert code_of(client.load_model, "adder") == "UNAUTHENTICATED"
    assert code_of(client.load_model, "adder", headers=KEY) == "PERMISSION_DENIED"  # it may call, not manage
    assert code_of(client.get_log_settings) == "UNIMPLEMENTED"
    many = triton.InferInput("x", [2_500_000], "FP64").set_data_from_numpy(np.zeros(2_500_000))
    assert code_of(client.infer, "adder", [many]) == "RESOURCE_EXHAUSTED"  # over 16 MiB
    text = served.client.get("/metrics").text
    assert 'code="404"' in text
    assert 'code="401"' in text
    assert client.infer("adder", [x_of(1)]).as_numpy("prediction").tolist() == [1001.0]


def test_many_at_once(client: Any) -> None:
    done: queue.Queue[tuple[int, Any, Any]] = queue.Queue()

    def ask_for(number: int) -> None:
        client.async_infer(
            "adder", [x_of(number)], callback=lambda result, error: done.put((number, result, error)), client_timeout=20
        )

    for number in range(300):
        ask_for(number)
    for _ in range(300):
        number, result, error = done.get(timeout=20)
        assert error is None
        assert result.as_numpy("prediction").tolist() == [1000.0 + number]


def test_a_conversation(client: Any) -> None:
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)))
    for number in range(200):
        client.async_stream_infer("adder", [x_of(number)], request_id=str(number))
    for number in range(200):
        result, error = done.get(timeout=20)
        assert error is None
        assert result.get_response().id == str(number)
        assert result.as_numpy("prediction").tolist() == [1000.0 + number]
    client.async_stream_infer("adder", [x_of(shape=[2])])  # has no data
    client.async_stream_infer("adder", [x_of(1)])
    assert "contents" in str(done.get(timeout=20)[1])
    assert done.get(timeout=20)[0].as_numpy("prediction").tolist() == [1001.0]
    client.stop_stream()


def test_a_conversation_needs_a_key_too(client: Any) -> None:
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)))
    client.async_stream_infer("people", people())
    assert done.get(timeout=20)[1].status() == "StatusCode.UNAUTHENTICATED"
    client.stop_stream()


def test_health(served: Plane) -> None:
    asked, answer = (messages.message(f"grpc.health.v1.HealthCheck{kind}") for kind in ("Request", "Response"))
    with grpc.insecure_channel(served.grpc_url) as channel:
        kinds = {"request_serializer": asked.SerializeToString, "response_deserializer": answer.FromString}
        check = channel.unary_unary("/grpc.health.v1.Health/Check", **kinds)
        assert check(asked()).status == 1
        assert check(asked(service="adder")).status == 1
        with pytest.raises(grpc.RpcError) as found:
            check(asked(service="nobody"), metadata=tuple(KEY.items()))
        assert found.value.code() is grpc.StatusCode.NOT_FOUND
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", **kinds)
        told = watch(asked())
        assert next(told).status == 1
        unknown = watch(asked(service="nobody"), metadata=tuple(KEY.items()))
        assert next(unknown).status == 3
        told.cancel()
        unknown.cancel()


def test_the_messages_are_those_of_tritons_client() -> None:
    """Every message and field is theirs, number and type alike; of ModelConfig and the statistics we say less."""
    theirs = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}
    ours = messages.pool().FindFileByName("inference.proto").message_types_by_name
    partial = {"ModelConfig", "ModelInput", "ModelOutput", "ModelStatistics", "ModelDynamicBatching"}
    for name, mine in ours.items():
        compare(mine, theirs[name], name in partial)


def compare(mine: Any, other: Any, partial: bool) -> None:
    assert partial or set(mine.fields_by_name) == set(other.fields_by_name), mine.full_name
    for name, field in mine.fields_by_name.items():
        twin = other.fields_by_name[name]
        assert (field.number, field.type, field.is_repeated) == (twin.number, twin.type, twin.is_repeated), name
    for name, nested in mine.nested_types_by_name.items():
        compare(nested, other.nested_types_by_name[name], partial)
