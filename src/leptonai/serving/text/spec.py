"""What may be asked by OpenAI's words: chats, completions, embeddings. A field that is not known, or not possible, is refused.

A field that is known but not possible may have the value that asks for nothing, for clients that always send it.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from leptonai.core.errors import FieldError, Invalid, Unsupported

_NOTHING = {
    "n": (1,), "tools": ([],), "tool_choice": ("none", "auto"), "response_format": ({"type": "text"},), "logit_bias": ({},),
    "logprobs": (False, 0), "top_logprobs": (0,), "store": (False,), "modalities": (["text"],), "parallel_tool_calls": (True, False),
    "service_tier": ("auto", "default"), "functions": ([],), "function_call": ("none", "auto"), "echo": (False,), "best_of": (1,),
    "suffix": ("",), "metadata": ({},), "reasoning_effort": ("none",),
}  # fmt: skip
_OTHERS = (
    "audio",
    "prediction",
    "web_search_options",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "verbosity",
    "moderation",
)
_EMPTY_IN_MESSAGES = (
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
    "audio",
    "annotations",
    "reasoning_content",
)


class Asked(BaseModel):
    """A value that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _text(value: Any) -> Any:
    """Return the text of a content that is given in parts."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"a part of the type {kind!r} is not supported: this model takes text")
    return "".join(part["text"] for part in value)


class Message(Asked):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text)]

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, value: Any) -> Any:
        return _dropped(value, dict.fromkeys(_EMPTY_IN_MESSAGES, ([],)))


class StreamOptions(Asked):
    """What is said in a stream beside the text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


Stop = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
    Field(max_length=4),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else tuple(value or ()) if isinstance(value, (list, type(None))) else value),
]  # fmt: skip
Penalty = Annotated[float, Field(ge=-2, le=2)]


class Sampling(Asked):
    """How the text goes on."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=100_000)] = 0  # 0: all; not one of OpenAI's
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    stop: Stop = ()
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, value: Any) -> Any:
        return _dropped(value, {**_NOTHING, **dict.fromkeys(_OTHERS, ())})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for streams: set stream to true")
        return self

    def options(self) -> dict[str, Any]:
        """Return what the model is told."""
        found: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "stop": list(self.stop),
        }
        if self.max_tokens is not None:
            found["max_tokens"] = self.max_tokens
        if self.seed is not None:
            found["seed"] = self.seed & 0xFFFFFFFF if self.seed & 0xFFFFFFFF != 0xFFFFFFFF else 0  # that one means: any
        return found


class Chat(Sampling):
    """``POST /v1/chat/completions``."""

    chat: ClassVar[bool] = True

    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=2000), BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]  # fmt: skip
    max_completion_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens mean the same: give one of them")
        return self

    def options(self) -> dict[str, Any]:
        """Return what the model is told."""
        found = super().options()
        if self.max_completion_tokens is not None:
            found["max_tokens"] = self.max_completion_tokens
        roles = {"developer": "system"}
        messages = [{"role": roles.get(m.role, m.role), "content": m.content} for m in self.messages]
        return {**found, "messages": messages}


class Completion(Sampling):
    """``POST /v1/completions``."""

    chat: ClassVar[bool] = False

    prompt: Annotated[str, Field(min_length=1)]

    def options(self) -> dict[str, Any]:
        """Return what the model is told."""
        return {"max_tokens": 16, **super().options(), "prompt": self.prompt}


Tokens = Annotated[list[int], Field(min_length=1)]


class Embed(Asked):
    """``POST /v1/embeddings``: a text, a list of texts, a text as tokens, or a list of those."""

    model: str
    input: str | list[str] | Tokens | list[Tokens]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, value: Any) -> Any:
        return _dropped(value, {"user": ()})

    @model_validator(mode="after")
    def _some(self) -> Self:
        if isinstance(self.input, list) and not 1 <= len(self.input) <= 2048:
            raise ValueError("input must have 1 to 2048 texts")
        if "" in (self.input if isinstance(self.input, list) else [self.input]):
            raise ValueError("input has an empty text")
        return self

    def options(self) -> dict[str, Any]:
        """Return what the model is told."""
        given = self.input
        if isinstance(given, str):
            return {"texts": [given]}
        if isinstance(given[0], str):
            return {"texts": given}
        return {"tokens": [given] if isinstance(given[0], int) else given}


KINDS: dict[str, type[Asked]] = {"chat/completions": Chat, "completions": Completion, "embeddings": Embed}


def read(path: str, document: Any) -> Any:
    """Check what was sent to one of OpenAI's paths. Raises `Invalid` that names the field."""
    try:
        return KINDS[path].model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = _where(found["loc"])
        if found["type"] == "unsupported":
            where = ".".join(filter(None, (where, found["ctx"]["field"])))
            raise Unsupported(
                f"{where} is not supported here: leave it out", errors=[FieldError(where, "left out")]
            ) from None
        if found["type"] == "extra_forbidden":
            message = f"{where} is not a field that is known here: leave it out"
        else:
            said = found["msg"].removeprefix("Value error, ")
            message = f"{where}: {said}" if where else said
        raise Invalid(message, errors=[FieldError(where, message)]) from None


def _where(place: tuple[int | str, ...]) -> str:
    """Return a place in the words of its sender: ``messages[0].content``."""
    found = ""
    for step in place:
        if isinstance(step, int):
            found += f"[{step}]"
        elif step.isidentifier():
            found += f".{step}" if found else step
    return found


def _dropped(value: Any, known: dict[str, tuple[Any, ...]]) -> Any:
    """Leave out what asks for nothing, and refuse by name what cannot be done."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, given in value.items():
        if name not in known:
            if given is not None or name in ("content", "model"):
                kept[name] = given
        elif given is not None and not any(given == right and type(given) is type(right) for right in known[name]):
            raise PydanticCustomError(
                "unsupported", "{field} is not supported with this model: leave it out", {"field": name}
            )
    return kept
