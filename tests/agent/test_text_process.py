"""The process of a model of text, with a real one: it hangs, and is replaced."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.support import bundles
from tests.support.site import until
from tests.support.texts import SMOL

from leptonai.agent.text_process import TextProcess
from leptonai.core import plugins
from leptonai.core.ports import Executor, Job
from leptonai.serving import pulse
from leptonai.serving.plane.text import TextLine
from leptonai.testing.executor import wait_for

ASK = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "max_tokens": 8}
STORY = {"messages": [{"role": "user", "content": "Tell me a very long story."}], "max_tokens": 400}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """An executor whose fork server is there before the test is watched for what it leaves behind."""
    made = plugins.executor("local")
    made.start(Job("first", "leptonai.testing.jobs:note", {}, tmp_path_factory.mktemp("first")))
    wait_for(lambda: made.poll("first"), 120)
    yield made
    made.close()


class Blobs:
    """One file, whatever is asked for."""

    def open(self, _blob: str) -> BinaryIO:
        return SMOL.open("rb")


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.text = ""
        self.over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.begun = asyncio.Event()

    def piece(self, said: Mapping[str, Any], _data: bytes) -> None:
        self.text += said["text"]
        self.begun.set()

    def done(self) -> None:
        self.over.set_result(None)

    def failed(self, error: Exception) -> None:
        self.over.set_result(error)


def worker_in(folder: Path) -> int:
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and (path / "cwd").readlink() == folder:
                return int(path.name)
        except OSError:
            continue
    raise AssertionError("no process works there")


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_process_that_hangs_is_replaced_and_what_had_no_byte_is_answered(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTONAI_CHATS", "1")
    monkeypatch.setenv("LEPTONAI_CONTEXT", "512")
    model = bundles.adder(1)[0]
    model = model.model_copy(
        update={
            "files": {"model.gguf": "blob"},
            "lineage": {},
            "signature": replace(model.signature, task="chat"),
        }
    )
    process = TextProcess(executor, model, Blobs(), tmp_path / "text")  # type: ignore[arg-type]
    try:
        await asyncio.to_thread(process.start)
        line = TextLine(process.path)
        await line.start()
        story, behind = Heard(), Heard()
        line.ask(STORY, story, 120.0)
        line.ask(ASK, behind, 120.0)
        await asyncio.wait_for(story.begun.wait(), 60)
        first = worker_in(tmp_path / "text")
        process.keep_up()
        assert worker_in(tmp_path / "text") == first, "it is at work"
        os.kill(first, signal.SIGSTOP)
        process._silence = 0.3
        while not story.over.done():
            await asyncio.to_thread(process.keep_up)
            await asyncio.sleep(0.05)
        assert "died while it answered" in str(story.over.result())
        process._silence = 0.0
        while not behind.over.done():
            await asyncio.to_thread(process.keep_up)
            await asyncio.sleep(0.05)
        assert behind.over.result() is None
        assert behind.text
        assert worker_in(tmp_path / "text") != first
        found = until(lambda: (it := pulse.read(tmp_path / "text")) is not None and not it.since and it, 10)
        assert found.done > 0
        assert process.trouble == ""
        line.close()
    finally:
        process.close()
