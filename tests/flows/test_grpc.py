"""A service over gRPC as a user has it: one flag, a key, Triton's client; and the same again after its process was killed."""

import os
import signal
import socket
from pathlib import Path

import numpy as np
import psutil
import tritonclient.grpc as triton
from tests.support.lepton import Lepton
from tests.support.site import until
from tritonclient.utils import InferenceServerException

import leptonai
from leptonai.sdk import client
from leptonai.sdk.sites import get_site


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(asking: triton.InferenceServerClient, key: str) -> list[str]:
    inputs = [
        triton.InferInput(name, [2], "FP64").set_data_from_numpy(np.array(values))
        for name, values in {"a": [1.0, 9.0], "b": [0.0, 0.0]}.items()
    ]
    found = asking.infer("small", inputs, headers={"authorization": f"Bearer {key}"})
    return [text.decode() for text in found.as_numpy("label")]


def test_from_a_table_to_grpc(tmp_path: Path) -> None:
    table = tmp_path / "small.csv"
    table.write_text(
        "a,b,label\n" + "".join(f"{i % 10}.5,{i % 3}.25,{'high' if i % 10 > 4 else 'low'}\n" for i in range(200))
    )
    lepton, port = Lepton(tmp_path / "user", LEPTONAI_PLANES="1"), free_port()
    with lepton.up("--grpc-port", str(port)) as server:
        client.connect(host=server.url, api_key=server.key)
        try:
            leptonai.create_dataset("small", files=table, target="label")
            model = leptonai.Model()
            model.fit("small")
            service = model.publish("small").deploy("small")
            assert service.grpc_url == f"127.0.0.1:{port}"
            assert lepton.json("service", "get", "small")["status"]["grpc_url"] == service.grpc_url
            assert service.grpc_url in lepton("service", "get", "small")
            until(lambda: get_site().facts.get("grpc") == service.grpc_url, 20)
            key = lepton.json("key", "create", "till", "--scope", "service:predict:small")["secret"]
            with triton.InferenceServerClient(service.grpc_url) as asking:
                until(lambda: answers(asking, key), 20)
                assert ask(asking, key) == ["low", "high"]
                (plane,) = [process for process in psutil.process_iter(["cmdline"]) if is_plane(process, lepton.home)]
                os.kill(plane.pid, signal.SIGKILL)
                until(lambda: answers(asking, key), 30)
        finally:
            client.disconnect()


def is_plane(process: psutil.Process, home: Path) -> bool:
    try:
        return "leptonai.serving.plane" in process.info["cmdline"] and process.environ().get("LEPTONAI_HOME") == str(
            home
        )
    except (psutil.Error, TypeError):
        return False


def answers(asking: triton.InferenceServerClient, key: str) -> bool:
    try:
        return ask(asking, key) == ["low", "high"]
    except InferenceServerException as error:
        assert error.status() in ("StatusCode.UNAVAILABLE", "StatusCode.UNAUTHENTICATED"), (
            error
        )  # the key comes in a moment
        return False
