"""Fills the reference pages from the code when the documentation is built: a table that is written by hand goes stale."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import typer.main

from leptonai.core import errors
from leptonai.core.settings import SETTINGS
from leptonai.core.stages import STAGES


def settings() -> str:
    """Return the table of settings."""
    rows = [
        f"| `{s.name}` | `{s.variable}` | {f'`{s.default}`' if s.default else 'none'} | {s.help} |"
        for s in SETTINGS.values()
    ]
    return "\n".join(["| Name | Environment | Default | What it does |", "|---|---|---|---|", *rows])


def error_codes() -> str:
    """Return the table of errors, with the HTTP status each has on the wire."""
    from leptonai.server.wire import STATUS

    def walk(kind: type[errors.LeptonError]) -> Iterator[type[errors.LeptonError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from walk(child)

    rows = []
    for kind in walk(errors.LeptonError):
        if kind.__module__ != errors.__name__:
            continue  # it never leaves its module
        status = next((STATUS[base] for base in kind.__mro__ if base in STATUS), "")
        rows.append(f"| `{kind.code}` | `{kind.__name__}` | {status} | {(kind.__doc__ or '').strip()} |")
    return "\n".join(["| Code | Class | HTTP | Meaning |", "|---|---|---|---|", *rows])


def stages() -> str:
    """Return the table of what can run."""
    rows = [f"| `{s.name}` | `{s.spec.replace(':', '.')}` | `{s.permission}` |" for s in STAGES.values()]
    return "\n".join(["| Stage | Spec | Permission |", "|---|---|---|", *rows])


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    with command.make_context(path, [], resilient_parsing=True) as context:
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(child, f"{path} {name}")


def commands() -> str:
    """Return each command with its arguments and options."""
    from leptonai.cli.main import app

    parts = []
    for path, command in _commands(typer.main.get_command(app), "lepton"):
        help_text = re.sub(r"\[/?[a-z ]+\]", "", command.help or "").strip()
        parts.append(f"## `{path}`\n\n{help_text}\n")
        rows = []
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                names = f"`{(parameter.metavar or parameter.name or '').strip('[]')}`"
            else:
                names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
            text = (getattr(parameter, "help", None) or "").replace("|", "\\|").replace("\n", " ")
            rows.append(f"| {names} | {text} |")
        if rows:
            parts.append("\n".join(["| | |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def routes() -> str:
    """Return each route of the control API with the permission it needs."""
    from leptonai.server.routes import table

    rows = [f"| `{r.method}` | `{r.path}` | {f'`{r.permission}`'} | {r.summary} |" for r in table()]
    return "\n".join(["| Method | Path | Permission | |", "|---|---|---|---|", *rows])


MAKERS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "errors": error_codes,
    "stages": stages,
    "commands": commands,
    "routes": routes,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each ``<!-- generate: NAME -->`` of a page (a hook of mkdocs)."""
    return re.sub(r"<!-- generate: (\w+) -->", lambda found: MAKERS[found.group(1)](), markdown)
