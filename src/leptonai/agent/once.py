"""One Run, in a process of its own that was forked for it."""

import faulthandler
import json
import signal
import sys
import threading
import traceback
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from leptonai.agent import ranks
from leptonai.agent.handle import RunHandle
from leptonai.agent.sender import fenced
from leptonai.core.errors import Invalid, LeptonError, RunFailed
from leptonai.core.nouns import Run
from leptonai.core.ranks import ALONE, Rank
from leptonai.core.stages import load, stage
from leptonai.core.states import RunState
from leptonai.sdk.http import Http


class Stopped(BaseException):
    """The agent asked this process to end. Not an Exception, so that no `except Exception` of user code swallows it."""


STOPPED = 75  # the exit code of a process that ended because it was asked to; its agent knows why
ALONE_LEFT = 76  # and of one of several that lost the others
_LOST_SECONDS = 3.0  # in which the process that was lost is found, when the others cannot go on


class Outcome(NamedTuple):
    """How the work ended."""

    state: RunState
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    retry: bool = False


def main(payload: dict[str, Any]) -> None:
    """Do the work of a Run and tell the server how it ended.

    `payload`: the Run, the token of this attempt, the server's URL, and the store's where it is within reach.
    """
    faulthandler.enable()  # a crash in a library leaves its place in the Run's log
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    run = Run.model_validate(payload["run"])
    folder = Path.cwd()
    rank, others, problem = ALONE, dict[int, int](), None
    if "rank" in payload:  # an executor started each process
        rank = Rank(*payload["rank"])
    elif run.workers > 1:
        try:
            rank, others = ranks.fork(run.workers, folder)
        except Invalid as error:
            problem = Outcome(RunState.FAILED, error=error.to_dict())
    http = Http(payload["host"], payload["token"])
    handle = RunHandle(run, http, payload["store_url"], folder, rank, place=payload.get("place"))
    watch = ranks.Watch(rank, others, folder, (0, STOPPED, ALONE_LEFT), partial(_lost, handle)) if others else None
    try:
        _on_term(_raise_stopped)
        outcome = problem or work(run, handle)
        _on_term(signal.SIG_IGN)  # what is decided is told
    except Stopped:
        handle.close()
        sys.exit(STOPPED)
    if rank.number:
        _told(rank, handle, outcome, folder)
        return
    if watch is not None:
        if outcome.retry:
            watch.wait(_LOST_SECONDS)
        watch.over()
    try:
        handle.finish(outcome.state, result=outcome.result, error=outcome.error, retry=outcome.retry)
    except LeptonError as error:  # the server does not take the result
        handle.finish(RunState.FAILED, error=error.to_dict())
    finally:
        http.close()


def _told(rank: Rank, handle: RunHandle, outcome: Outcome, folder: Path) -> None:
    """End a process that is not the first: what failed here is told by the first, or from here where it is elsewhere."""
    if outcome.state is RunState.SUCCEEDED:
        handle.close()
        return
    if outcome.retry:  # it lost the others; who was lost first is found by who looks after them
        handle.close()
        sys.exit(ALONE_LEFT)
    if rank.meet:
        ranks.leave_word(folder, rank, {"error": outcome.error})
        handle.close()
    else:
        handle.finish(outcome.state, error=outcome.error)
    sys.exit(1)


def _lost(handle: RunHandle, words: str = "", error: dict[str, Any] | None = None) -> None:
    """End the attempt because of another process: it failed and said so, or was lost, and then the Run is taken up again."""
    handle.finish(RunState.FAILED, error=error or RunFailed(words).to_dict(), retry=error is None)
    fenced()


def work(run: Run, handle: RunHandle) -> Outcome:
    """Run the stage's work and say how it ended. Whatever user code raises ends here; its traceback goes to the log."""
    try:
        found = stage(run.stage)
        spec = load(found.spec).model_validate(run.spec)
        result = load(found.work)(spec, handle)
        json.dumps(result, allow_nan=False)
        return Outcome(RunState.SUCCEEDED, result=result)
    except LeptonError as error:
        if not isinstance(error, Invalid):
            traceback.print_exc()
        return Outcome(RunState.FAILED, error=error.to_dict(), retry=not isinstance(error, Invalid))
    except MemoryError:
        traceback.print_exc()
        return _failed(
            "there was not enough memory: use smaller batches, a smaller model, or raise the Run's memory limit"
        )
    except SystemExit as error:
        traceback.print_exc()
        return _failed(f"the Run's code called sys.exit({error.code!r}), which ends no Run: raise an error, or return")
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        traceback.print_exc()
        return _failed(f"{type(error).__name__}: {error}"[:1000].strip() + " (the Run's log has the traceback)")


def _failed(words: str) -> Outcome:
    return Outcome(RunState.FAILED, error=RunFailed(words).to_dict())


def _on_term(action: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, action)


def _raise_stopped(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


def nothing(payload: dict[str, Any]) -> None:
    """Do nothing: a job that has the executor load the libraries of a flavour."""
