"""The states of a Run, a Service and a rollout, and the moves between them that are legal."""

from enum import StrEnum


class RunState(StrEnum):
    """Where a Run is in its life."""

    QUEUED = "queued"  # waits for an agent
    RUNNING = "running"  # an agent holds a lease on it
    STOPPING = "stopping"  # somebody asked to cancel it; its agent has not yet said that it stopped
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the state is terminal: no move leads out of it."""
        return not RUN_MOVES[self]


RUN_MOVES: dict[RunState, frozenset[RunState]] = {
    # QUEUED -> FAILED: every attempt was lost. RUNNING -> QUEUED: the attempt is to be taken up again.
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.FAILED}),
    RunState.RUNNING: frozenset(
        {RunState.QUEUED, RunState.STOPPING, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}
    ),
    RunState.STOPPING: frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}


class ServiceState(StrEnum):
    """What a Service is doing, as its Site last said."""

    STARTING = "starting"  # no version of it answers yet
    READY = "ready"  # the version asked for is loaded, warmed and answers
    UPDATING = "updating"  # the last good version answers while a new one loads
    FAILED = "failed"  # the version asked for cannot be loaded; the last good one, if any, still answers
    STOPPED = "stopped"


class RolloutPhase(StrEnum):
    """How far a rollout is."""

    LOADING = "loading"  # the new version is loaded, warmed and computes for the first time
    REPLAYING = "replaying"  # it answers what the service was asked lately, and its answers are compared
    CANARY = "canary"  # it answers part of the requests, step by step
    WATCHING = "watching"  # shadow, split, test: until somebody, or the test, ends it
    PROMOTED = "promoted"  # over: it answers all
    ROLLED_BACK = "rolled back"  # over: the version before answers all
