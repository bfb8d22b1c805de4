"""What may be asked by OpenAI's words: every field is used or refused by its name."""

from typing import Any

import pytest

from leptonai.core.errors import Invalid
from leptonai.serving.text import spec

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def test_what_clients_send_that_asks_for_nothing_is_taken() -> None:
    read = spec.read("chat/completions",
        {
            **CHAT, "n": 1, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "user": None, "stop": None,
            "logprobs": False, "store": False, "logit_bias": {}, "max_completion_tokens": 5, "seed": -1,
            "messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                          "name": None, "refusal": None, "tool_calls": None, "annotations": []}],
        },
    )  # fmt: skip
    options = read.options()
    assert options["messages"] == [{"role": "system", "content": "ab"}]
    assert options["max_tokens"] == 5
    assert options["stop"] == []
    assert options["seed"] == 0  # not the number by which llama.cpp means: any


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"user": "me"}, "user"),
        ({"strange": 1}, "strange"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, ""),
        ({"stream_options": {"include_usage": True}}, ""),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x", "name": "Ada"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(given: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as error:
        spec.read("chat/completions", {**CHAT, **given})
    assert error.value.errors[0].field == field


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("one", {"texts": ["one"]}),
        (["one", "two"], {"texts": ["one", "two"]}),
        ([1, 2], {"tokens": [[1, 2]]}),
        ([[1], [2, 3]], {"tokens": [[1], [2, 3]]}),
    ],
)
def test_what_is_embedded_comes_in_four_forms(given: Any, asked: dict[str, Any]) -> None:
    assert spec.read("embeddings", {"model": "m", "input": given}).options() == asked


@pytest.mark.parametrize("given", ["", [], [""], [[]], [1.5], [["a"]], 7, None, ["a", 1]])
def test_what_is_no_text_is_not_embedded(given: Any) -> None:
    with pytest.raises(Invalid):
        spec.read("embeddings", {"model": "m", "input": given})
