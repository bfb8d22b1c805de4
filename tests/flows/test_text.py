"""A chat model and an embedding model, from their files to OpenAI's client, unchanged."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from tests.support.lepton import Lepton
from tests.support.site import alive, until
from tests.support.texts import MINI, SMOL

import leptonai
from leptonai.core.errors import Invalid, Unsupported
from leptonai.sdk.services import Service

ASK = [
    {"role": "system", "content": "You answer questions."},
    {"role": "user", "content": "What is the capital of France?"},
]
SAID = "The capital of France is Paris."


def key_of(home: Path) -> str:
    return str(json.loads((home / "server.json").read_text())["token"])


def worker_of(home: Path, model: str) -> int | None:
    """The process that computes a model: the one that works in its folder."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and alive(int(path.name)):
            try:
                if (path / "cwd").readlink() == home / "jobs" / f"text-{model}":
                    return int(path.name)
            except OSError:
                continue
    return None


def test_chats_and_embeddings_with_openais_client(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEPTONAI_CHATS", "2")
    monkeypatch.setenv("LEPTONAI_CONTEXT", "512")
    monkeypatch.setenv("LEPTONAI_WARM", "none")
    refuses_what_can_carry_code(tmp_path)
    version = leptonai.import_model(SMOL, name="smol", task="chat", aliases=["champion"])
    assert (version.files, version.signature.task, version.aliases) == (["model.gguf"], "chat", ["champion"])
    service = version.deploy("chat")
    lepton = Lepton(tmp_path / "user", LEPTONAI_HOME=str(home))
    made = lepton.json("model", "create", "mini", "--from", str(MINI), "--task", "embedding")
    assert made["version"] == 1
    leptonai.get_model("mini").deploy("mini")
    key = key_of(home)
    with openai.OpenAI(base_url=service.openai_url, api_key=key, max_retries=0, timeout=120) as client:
        chats(client)
        refuses(client)
        embeddings(client)
    with_curl(service, key)
    with pytest.raises(Unsupported, match="model of text"):
        service.predict([{"messages": "x"}])
    asyncio.run(many(service, key))
    asyncio.run(dies(service, key, home, version.record.id))


def refuses_what_can_carry_code(folder: Path) -> None:
    bad = folder / "bad"
    bad.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (bad / name).write_text("{}")
    (bad / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(Unsupported, match=r"pytorch_model.bin is not a format that is taken"):
        leptonai.import_model(bad, name="bad", task="embedding")
    with pytest.raises(Unsupported, match=r"has no GGUF file, only pytorch_model.bin"):
        leptonai.import_model(bad, name="bad", task="chat")
    (bad / "x.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(Invalid, match="is not what its name says"):
        leptonai.import_model(bad / "x.gguf", name="bad", task="chat")


def chats(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"chat", "mini"}
    assert client.models.retrieve("chat").owned_by == "leptonai"
    whole = client.chat.completions.create(model="chat", messages=ASK, temperature=0)  # type: ignore[arg-type]
    assert whole.choices[0].message.content == SAID
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert (whole.usage.completion_tokens, whole.usage.total_tokens) == (8, 8 + whole.usage.prompt_tokens)
    pieces = list(
        client.chat.completions.create(  # type: ignore[call-overload]
            model="chat", messages=ASK, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces[:-1]) == SAID
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-2].choices[0].finish_reason == "stop"
    assert (pieces[-1].choices, pieces[-1].usage.completion_tokens) == ([], 8)
    short = client.completions.create(model="chat", prompt="One, two, three,", max_tokens=3, temperature=0)
    assert short.choices[0].finish_reason == "length"
    assert short.choices[0].text


def refuses(client: openai.OpenAI) -> None:
    for more, kind, param, word in (
        ({"n": 2}, openai.BadRequestError, "n", "n is not supported"),
        ({"extra_body": {"odd": 1}}, openai.BadRequestError, "odd", "not a field"),
        ({"messages": [{"role": "user", "content": "a " * 600}]}, openai.BadRequestError, "messages", "context is 512"),
        ({"model": "none"}, openai.NotFoundError, "model", "no service"),
        ({"model": "mini"}, openai.BadRequestError, "model", "/v1/embeddings"),
    ):
        with pytest.raises(kind, match=word) as error:
            client.chat.completions.create(**{"model": "chat", "messages": ASK, **more})
        assert error.value.param == param  # type: ignore[attr-defined]
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="lep_wrong").chat.completions.create(model="chat", messages=ASK)  # type: ignore[arg-type]
    with pytest.raises(openai.APIStatusError, match="took longer") as late:
        client.chat.completions.create(model="chat", messages=ASK, extra_headers={"X-Request-Timeout-Ms": "1"})  # type: ignore[arg-type]
    assert late.value.status_code == 504


def embeddings(client: openai.OpenAI) -> None:
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "A cheetah runs."]
    found = client.embeddings.create(model="mini", input=texts)  # the client asks for base64
    plain = client.embeddings.create(model="mini", input=texts, encoding_format="float", dimensions=384)
    vectors = np.array([item.embedding for item in found.data])
    np.testing.assert_allclose(vectors, np.array([item.embedding for item in plain.data]), atol=1e-6)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] == pytest.approx(0.7553, abs=0.001)
    assert found.usage.prompt_tokens == found.usage.total_tokens > 20
    with pytest.raises(openai.BadRequestError, match="384 dimensions"):
        client.embeddings.create(model="mini", input="x", dimensions=5)


def with_curl(service: Service, key: str) -> None:
    body = json.dumps({"model": "chat", "messages": ASK, "temperature": 0, "stream": True})
    command = [
        "curl",
        "-sN",
        f"{service.openai_url}/chat/completions",
        "-H",
        f"Authorization: Bearer {key}",
        "-d",
        body,
    ]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == SAID


async def many(service: Service, key: str) -> None:
    """More than there is room for is told so at once; who hangs up makes room."""
    async with openai.AsyncOpenAI(base_url=service.openai_url, api_key=key, max_retries=0, timeout=120) as client:

        async def ask(number: int) -> None:
            story = [{"role": "user", "content": f"Tell me a very long story of number {number}."}]
            stream = await client.chat.completions.create(model="chat", messages=story, stream=True)  # type: ignore[call-overload]
            async for _ in stream:
                pass

        tasks = [asyncio.create_task(ask(number)) for number in range(11)]  # two are answered, eight wait
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        full = next(error for task in done if (error := task.exception()) is not None)
        assert isinstance(full, openai.APIStatusError)
        assert full.status_code == 503
        assert int(full.response.headers["retry-after"]) >= 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        patient = client.with_options(max_retries=3)  # for the moment in which the server hears of it
        answer = await patient.chat.completions.create(model="chat", messages=ASK, temperature=0)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == SAID


async def dies(service: Service, key: str, home: Path, model: str) -> None:
    """When the process dies a stream that began ends with an error, and what had no byte yet is answered all the same."""
    async with openai.AsyncOpenAI(base_url=service.openai_url, api_key=key, max_retries=0, timeout=120) as client:
        story = [{"role": "user", "content": "Tell me a very long story."}]
        stream = await client.chat.completions.create(model="chat", messages=story, stream=True)  # type: ignore[call-overload]
        await anext(aiter(stream))
        whole = asyncio.create_task(client.chat.completions.create(model="chat", messages=ASK, temperature=0))  # type: ignore[arg-type]
        pid = until(lambda: worker_of(home, model))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(openai.APIError, match="died while it answered"):
            async for _ in stream:
                pass
        assert (await whole).choices[0].message.content == SAID
    assert worker_of(home, model) not in (None, pid)
    headers = {"authorization": f"Bearer {key}"}
    ready = httpx.get(service.openai_url.replace("/v1", "/v2/models/chat/ready"), headers=headers, trust_env=False)
    assert ready.json()["ready"] is True
