"""The ``lepton`` command: nouns and verbs, the flags for all of them, and how errors end."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from leptonai import __version__
from leptonai.cli import (
    audit,
    dataset,
    dataset_check,
    dataset_clean,
    dataset_diff,
    dataset_labels,
    dataset_private,
    dataset_profile,
    dataset_tags,
    dataset_tasks,
    doctor,
    errors,
    key,
    login,
    model,
    model_gate,
    new,
    run,
    run_show,
    service,
    service_bench,
    service_explain,
    service_logs,
    service_memory,
    service_predictions,
    service_replicas,
    service_rollout,
    service_top,
    site,
    up,
)
from leptonai.core.errors import LeptonError

HELP = """From raw files to a live endpoint, on your own machines.

Every command reads lepton NOUN VERB: lepton dataset create, lepton run list, lepton service get.
With no host set, a server on this machine is found or started; lepton up keeps one.

\b
[bold]The way from a file to an answer[/bold]
  lepton dataset create churn churn.csv --target churned
  lepton run create train --data churn --epochs 20
  lepton run create evaluate --run RUN --data churn    [dim]RUN: the id it printed[/dim]
  lepton model create churn --run RUN --alias champion
  lepton service create churn --model models:/churn@champion
  lepton service predict churn --rows '{"age": 41, "plan": "basic"}'
"""

EPILOG = """Data goes to stdout, progress to stderr; -o json or yaml for programs. A change takes -f spec.toml and --dry-run.

Exit codes: 0 done, 1 failed, 2 wrong usage. lepton --install-completion makes TAB work in your shell."""


_INTERRUPTED = 130  # what Typer makes of a Ctrl-C that comes before the command has begun


class Stopped(typer.TyperException):
    """Ctrl-C."""


class Group(TyperGroup):
    """Typer would end with code 130 and say nothing; we say what was stopped, and end with 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Stopped(str(stop) or "stopped") from None


app = typer.Typer(
    name="lepton",
    cls=Group,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

START, BUILD, SERVE, MANAGE = "Start here", "From data to a model", "Serve", "Manage"
app.command("demo", rich_help_panel=START)(up.demo)
app.command("new", rich_help_panel=START)(new.new)
app.command("up", rich_help_panel=START)(up.up)
app.command("login", rich_help_panel=START)(login.login)
app.command("doctor", rich_help_panel=START)(doctor.doctor)
app.add_typer(dataset.app, rich_help_panel=BUILD)
app.add_typer(run.app, rich_help_panel=BUILD)
app.add_typer(model.app, rich_help_panel=BUILD)
del (
    dataset_check,
    dataset_clean,
    dataset_diff,
    dataset_profile,
    dataset_private,
    dataset_labels,
    dataset_tags,
    dataset_tasks,
    model_gate,
    run_show,
    service_bench,
    service_explain,
    service_logs,
    service_memory,
    service_predictions,
    service_replicas,
    service_rollout,
    service_top,
)  # their commands are those of dataset, model, run and service
app.add_typer(service.app, rich_help_panel=SERVE)
app.add_typer(site.app, rich_help_panel=SERVE)
app.add_typer(key.app, rich_help_panel=MANAGE)
app.add_typer(audit.app, rich_help_panel=MANAGE)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lepton {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="URL of the server, for this command.", metavar="URL")] = None,
    api_key: Annotated[str | None, typer.Option(help="API key for that server.", metavar="KEY")] = None,
    home: Annotated[str | None, typer.Option(help="Home folder of the server on this machine.", metavar="DIR")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an unexpected error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the flags that stand before the noun."""
    del debug, version  # run() looks for the first itself; the second has done its work
    context.obj = {"host": host, "api_key": api_key, "home": home}
    if host or api_key or home:
        from leptonai.sdk import client

        client.connect(host=host, api_key=api_key, home=home)


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code. Errors end here, each in one sentence."""
    try:
        code = app(arguments, prog_name="lepton", standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except LeptonError as error:
        errors.say(error)
        return errors.FAILED
    except typer.TyperException as error:
        if not error.format_message():  # a noun without a verb: its help was shown
            return error.exit_code
        print(f"lepton: {error.format_message()}", file=sys.stderr)
        context = getattr(error, "ctx", None)
        if context is not None:
            print(f"  see: {context.command_path} --help", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("lepton: stopped", file=sys.stderr)
        return errors.FAILED
    except Exception as error:  # the last stop: a user gets a sentence, never a traceback
        if "--debug" in arguments:
            raise
        print(f"lepton: {errors.sentence(error)}", file=sys.stderr)
        return errors.FAILED
    finally:
        if "leptonai.sdk.client" in sys.modules:  # else nothing was opened
            from leptonai.sdk import client

            client.disconnect()


def main() -> None:
    """Run what the command line says."""
    try:
        code = run_command(sys.argv[1:])
    except KeyboardInterrupt:  # again, while the first was being answered
        code = errors.FAILED
    sys.exit(code)
