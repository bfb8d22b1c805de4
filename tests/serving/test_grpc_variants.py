"""Several versions behind one service, asked over gRPC: shares, what a canary cannot answer, the log, and limits."""

import hashlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.support import bundles
from tests.support.plane import Plane
from tests.support.site import until

from leptonai.agent.plane_process import PlaneProcess
from leptonai.core.errors import Busy
from leptonai.core.signature import FeatureType, Signature, TensorSpec
from leptonai.serving.plane.grpc.limits import Limits
from leptonai.serving.plane.grpc.messages import ModelInferRequest, ModelInferResponse
from leptonai.serving.table import Line, Share


def broken() -> bundles.Bundle:
    """It computes what it is warmed with, zeros, and fails at all else: there is one place in its table."""
    signature = Signature(
        inputs=(TensorSpec(name="x", datatype="FP64", shape=(-1,), type=FeatureType.NUMBER),),
        outputs=(TensorSpec(name="prediction", datatype="FP32", shape=(-1,)),),
        task="regression",
    )
    nodes = [
        bundles.node("Cast", ["x"], "where", to=7),
        bundles.node("Gather", ["table", "where"], "prediction"),
    ]
    return bundles.bundle("adder", 3, signature, nodes, {"table": np.array([0.5], np.float32)})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"), grpc=True)
    models = [bundles.adder(1), bundles.adder(2), broken()]
    for model, files in models:
        made.process.load(model, files)
    one, two, three = (model.id for model, _ in models)
    made.process.keys([[hashlib.sha256(b"test").hexdigest(), "test", ["*"], None]])
    made.process.route(
        [
            Line("half", (Share("stable", one, 50), Share("canary", two, 50)), public=True),
            Line("sticky", (Share("stable", one, 50), Share("canary", two, 50)), public=True, sticky="x-user"),
            Line("hurt", (Share("stable", one, 0), Share("canary", three, 100)), public=True),
        ]
    )
    yield made
    made.close()


def ask(channel: grpc.Channel, service: str, **metadata: str) -> tuple[float, dict[str, Any]]:
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=ModelInferRequest.SerializeToString,
        response_deserializer=ModelInferResponse.FromString,
    )
    request = ModelInferRequest(model_name=service, raw_input_contents=[np.array([5.0]).tobytes()])
    request.inputs.add(name="x", datatype="FP64", shape=[1])
    answer, said = call.with_call(request, timeout=20, metadata=[(k.replace("_", "-"), v) for k, v in metadata.items()])
    (value,) = np.frombuffer(answer.raw_output_contents[0], np.float32)
    return float(value), dict(said.trailing_metadata())


def test_shares(served: Plane) -> None:
    with grpc.insecure_channel(served.grpc_url) as channel:
        found = [ask(channel, "half") for _ in range(60)]
        counts = Counter(said["x-leptonai-variant"] for _, said in found)
        assert set(counts) == {"stable", "canary"}
        wanted = {"stable": (1005.0, "1"), "canary": (2005.0, "2")}
        assert all((value, said["x-leptonai-version"]) == wanted[said["x-leptonai-variant"]] for value, said in found)


def test_a_caller_keeps_his_variant(served: Plane) -> None:
    with grpc.insecure_channel(served.grpc_url) as channel:
        each = {user: {ask(channel, "sticky", x_user=user)[0] for _ in range(5)} for user in map(str, range(12))}
    assert all(len(values) == 1 for values in each.values())
    assert len(set.union(*each.values())) == 2


def test_what_a_canary_cannot_answer_the_stable_version_answers(served: Plane) -> None:
    with grpc.insecure_channel(served.grpc_url) as channel:
        for _ in range(5):
            value, said = ask(channel, "hurt")
            assert (value, said["x-leptonai-variant"]) == (1005.0, "stable")


def test_limits_of_an_address() -> None:
    limits = Limits(2, 0.001, 3)
    assert [limits.opened("a") for _ in range(3)] == [True, True, False]
    assert limits.opened("b")
    for _ in range(3):
        limits.closed("a")
    assert limits.opened("a")
    for _ in range(3):
        limits.take("a")
    with pytest.raises(Busy, match="from a") as found:
        limits.take("a")
    assert found.value.retry_after is not None
    assert found.value.retry_after > 1
    limits.take("b")
    assert [Limits().take("a") for _ in range(5)] == [None] * 5


def test_no_call_fails_while_one_process_takes_the_place_of_another(tmp_path: Path) -> None:
    made = Plane(tmp_path, grpc=True)
    model, files = bundles.adder(1)
    failed: list[grpc.RpcError] = []
    answered: list[float] = []
    done = threading.Event()

    def more() -> None:
        now = len(answered)
        until(lambda: len(answered) > now + 20, 30)

    def calls() -> None:
        with grpc.insecure_channel(made.grpc_url, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            while not done.is_set():
                try:
                    answered.append(ask(channel, "adder")[0])
                except grpc.RpcError as error:
                    failed.append(error)

    try:
        made.load((model, files))
        threads = [threading.Thread(target=calls) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            more()
            former, made.process = made.process, PlaneProcess(made.socket, made.log, grpc=made.grpc)
            made.process.keys([])
            made.process.load(model, files)
            made.process.route([Line.one("adder", model.id, True)])
            former.close()
        more()
        with grpc.insecure_channel(made.grpc_url) as channel:
            assert failed == []
            done.set()
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
            assert next(watch) == b"\x08\x01"
            made.process.close()
            with pytest.raises(grpc.RpcError) as found:
                next(watch)
            assert found.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "stopping" in found.value.details()
    finally:
        done.set()
        for thread in threads:
            thread.join()
        made.close()
    assert set(answered) == {1005.0}


RETRY = {
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def test_a_client_that_is_told_to_try_again_does_not_notice_that_processes_are_killed(tmp_path: Path) -> None:
    """What the how-to page on serving says about ``UNAVAILABLE``."""
    made = Plane(tmp_path, grpc=True)
    model, files = bundles.adder(1)
    failed: list[grpc.RpcError] = []
    answered: list[float] = []
    done = threading.Event()

    def calls() -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", json.dumps(RETRY))]
        with grpc.insecure_channel(made.grpc_url, options=options) as channel:
            while not done.is_set():
                try:
                    answered.append(ask(channel, "adder")[0])
                except grpc.RpcError as error:
                    failed.append(error)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    try:
        made.load((model, files))
        for thread in threads:
            thread.start()
        for _ in range(3):
            now = len(answered)
            until(lambda n=now: failed or len(answered) > n + 50, 30)  # type: ignore[misc]
            former, made.process = made.process, PlaneProcess(made.socket, made.log, grpc=made.grpc)
            made.process.keys([])
            made.process.load(model, files)
            made.process.route([Line.one("adder", model.id, True)])
            os.kill(former.pid, signal.SIGKILL)
            former.kill()
        now = len(answered)
        until(lambda: failed or len(answered) > now + 50, 30)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        made.close()
    assert failed == []
    assert set(answered) == {1005.0}
