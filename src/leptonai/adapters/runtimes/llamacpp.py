"""Chats with a GGUF file by llama.cpp, through xllamacpp: several at once, in one batch that each joins and leaves on its own.

llama.cpp computes one token of every chat that runs, and prompts of new ones in pieces beside them, in each step. Its HTTP
server, which cannot be left out, listens on a Unix socket in the process's own folder, with a key that nobody has.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leptonai.adapters.runtimes import gguf
from leptonai.adapters.runtimes.chat_template import ChatTemplate, plain
from leptonai.core.errors import FieldError, Invalid, Unavailable
from leptonai.core.runtimes import LoadedText

SOCKET = "llama.sock"
_TOO_LONG = "exceed_context_size_error"


class LlamaRuntime:
    """Loads GGUF files."""

    name = "llamacpp"

    def load(self, files: Mapping[str, Path], *, slots: int, context: int, threads: int) -> "LoadedText":
        """Load the model with room for `slots` chats at once of `context` tokens each. Raises `Invalid`."""
        path = files.get("model.gguf")
        if path is None:
            raise Invalid("a chat model needs a GGUF file")
        facts = gguf.head(path)
        template = facts.get("tokenizer.chat_template")
        if not isinstance(template, str):
            raise Invalid("the GGUF file has no chat template: use the instruction-tuned version of the model")
        longest = facts.get(f"{facts.get('general.architecture')}.context_length")
        context = min(context, longest) if isinstance(longest, int) and longest > 0 else context
        server = _server(path, slots, context, threads)
        return LlamaChat(server, _template(template, facts), slots, context)


class LlamaChat:
    """A `LoadedText`: each call of `answer` is one chat."""

    def __init__(self, server: Any, template: ChatTemplate, slots: int, context: int):
        self._server = server
        self._template = template
        self.slots = slots
        self.facts: dict[str, Any] = {"context": context}

    def answer(self, asked: Mapping[str, Any], each: Callable[[Mapping[str, Any], bytes], bool]) -> None:
        """Go on with the text of ``messages`` or ``prompt``: `each` gets ``{"text"}``, and ``{"finish", "usage"}`` at the end."""
        failure: list[Mapping[str, Any]] = []

        def chunk(said: Mapping[str, Any]) -> bool:
            if "error" in said:
                failure.append(said["error"])
                return True
            return not each(_piece(said), b"")

        try:
            self._server.handle_completions({**self._options(asked), "prompt": self._prompt(asked)}, chunk)
        except RuntimeError as error:
            raise Unavailable(f"the chat cannot be computed: {error}") from error
        if failure:
            raise self._error(failure[0], "messages" if "messages" in asked else "prompt")

    def close(self) -> None:
        """Free it."""
        self._server = None

    def _prompt(self, asked: Mapping[str, Any]) -> str:
        if "messages" in asked:
            return self._template.prompt(plain(asked["messages"]))
        self._template.check(asked["prompt"], "prompt")
        return str(asked["prompt"])

    def _options(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return what llama.cpp is told: all that it would choose itself is said, in OpenAI's defaults."""
        options = {
            "stream": True,
            "n_predict": asked.get("max_tokens") or -1,
            "temperature": asked.get("temperature", 1.0),
            "top_p": asked.get("top_p", 1.0),
            "top_k": asked.get("top_k", 0),
            "min_p": 0.0,
            "repeat_penalty": 1.0,
            "presence_penalty": asked.get("presence_penalty", 0.0),
            "frequency_penalty": asked.get("frequency_penalty", 0.0),
            "stop": asked.get("stop", []),
            # What was computed for another prompt that began alike may differ in the last bit from what is computed anew.
            "cache_prompt": "seed" not in asked,
        }
        return {**options, "seed": asked["seed"]} if "seed" in asked else options

    def _error(self, said: Mapping[str, Any], field: str) -> Exception:
        if said.get("type") == _TOO_LONG:
            most, given = self.facts["context"], said.get("n_prompt_tokens")
            return Invalid(
                f"the model's context is {most} tokens, and the {field} have {given}: send less",
                errors=[FieldError(field, f"at most {most} tokens")],
                openai="context_length_exceeded",
            )
        if int(said.get("code", 500)) == 400:
            return Invalid(f"llama.cpp refuses the request: {str(said.get('message'))[:300]}")
        return Unavailable(f"the chat cannot be computed: {str(said.get('message'))[:300]}")


def _piece(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return llama.cpp's chunk in our words."""
    choice = said["choices"][0]
    piece: dict[str, Any] = {"text": choice["text"]}
    if choice["finish_reason"] is not None:
        usage = said["usage"]
        piece["finish"] = choice["finish_reason"]
        piece["usage"] = {
            "prompt": usage["prompt_tokens"],
            "completion": usage["completion_tokens"],
            "cached": usage.get("prompt_tokens_details", {}).get("cached_tokens", 0),
        }
    return piece


def _template(source: str, facts: Mapping[str, Any]) -> ChatTemplate:
    tokens = facts.get("tokenizer.ggml.tokens", [])
    kinds = facts.get("tokenizer.ggml.token_type", ())
    control = [token for token, kind in zip(tokens, kinds, strict=False) if kind == gguf.CONTROL]
    words = {}
    for word in ("bos", "eos"):
        number = facts.get(f"tokenizer.ggml.{word}_token_id")
        words[f"{word}_token"] = tokens[number] if isinstance(number, int) and number < len(tokens) else ""
    return ChatTemplate(source, words, control)


def _server(path: Path, slots: int, context: int, threads: int) -> Any:
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path = str(path)
    for pool in (asked.cpuparams, asked.cpuparams_batch):
        _set(pool, n_threads=threads, poll=0)  # threads that wait for work leave the processor to the planes
    _set(asked, n_parallel=slots, n_ctx=slots * context, kv_unified=False)  # each chat has the room that is promised
    _set(asked, cache_ram_mib=0, fit_params=False, warmup=True, verbosity=0)
    _set(asked, hostnames=[SOCKET], api_keys=[secrets.token_urlsafe(32)])
    _set(asked, ui=False, endpoint_slots=False, endpoint_props=False, endpoint_metrics=False)
    Path(SOCKET).unlink(missing_ok=True)  # of a process that died here before
    mask = os.umask(0o177)
    try:
        return xllamacpp.Server(asked)
    except RuntimeError as error:
        raise Invalid(f"llama.cpp cannot load the GGUF file: {error}") from error
    finally:
        os.umask(mask)


def _set(target: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(target, name, value)
