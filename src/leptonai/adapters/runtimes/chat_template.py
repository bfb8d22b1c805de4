"""A model's own chat template, rendered in a sandbox: it came with the model's file, so it is not trusted.

The sandbox keeps it from Python's objects; what keeps it from everything else is the process of its own that it runs in.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from leptonai.core.errors import FieldError, Invalid

LONGEST = 4 << 20  # characters of a rendered prompt


class ChatTemplate:
    """Makes the text that a model goes on with out of the messages of a chat."""

    def __init__(self, source: str, words: Mapping[str, str], control: Sequence[str]):
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(str(form))
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise Invalid(f"the chat template of the model cannot be read: {error}") from error
        self._words = words
        self._control = tuple(word for word in control if len(word) > 1)

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the prompt. Raises `Invalid` for what the template refuses, and for the model's control words in a message:
        who could write them could speak as another role.
        """
        for number, message in enumerate(messages):
            self.check(message["content"], f"messages[{number}].content")
        try:
            made = self._template.render(messages=messages, add_generation_prompt=True, **self._words)
        except jinja2.TemplateError as error:
            text = f"the model's chat template refuses these messages: {error}"
            raise Invalid(text, errors=[FieldError("messages", str(error))]) from error
        except Exception as error:
            text = f"the model's chat template fails with these messages: {type(error).__name__}"
            raise Invalid(text, errors=[FieldError("messages", "another order or other roles")]) from error
        if len(made) > LONGEST:
            raise Invalid("the prompt that the chat template makes of the messages is too long")
        return made

    def check(self, text: str, field: str) -> None:
        """Raise `Invalid` when the text has one of the control words."""
        found = next((word for word in self._control if word in text), None)
        if found is not None:
            raise Invalid(
                f"{field} has {found!r}, which is a control word of this model: leave it out",
                errors=[FieldError(field, f"text without {found}")],
            )


def plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the messages as roles and texts only."""
    return [{"role": str(message["role"]), "content": str(message["content"])} for message in messages]


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(str(message)[:300])
