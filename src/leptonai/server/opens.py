"""Which of the things of a kind a caller may touch: a route's permission says that he may read blobs, this says which.

The process of a Run may touch what its spec names and what it made itself; an agent what its Site works on and serves; a key
what it stored itself, and what Runs of a kind made that it may read.
"""

import contextlib
import re
from collections.abc import Iterable
from typing import Any

from leptonai.core.errors import Denied, NotFound
from leptonai.core.nouns import Blob, Dataset, Model, Run, Service
from leptonai.core.stages import STAGES, load
from leptonai.server.auth import Caller
from leptonai.server.context import Context

_PAGE = 500
_RUN = re.compile(r"run_[0-9a-z]{26}")


def report(who: Caller, here: Context, run: str) -> None:
    """Raise `Denied` unless he may say what happens in the Run of this id."""
    if who.run is None:
        who.need_site(here.catalog.get(Run, run).site)
    elif who.run.id != run:
        raise _not_named(who, f"run {run}")


def see(who: Caller, here: Context, run: Run) -> None:
    """Raise `Denied` unless he may read this Run: its own process, its Site's agent, a key.

    So may the process of a Run whose spec names it, or names one whose spec names it: what measures a published model reads
    how it was exported and how it was trained.
    """
    if who.run is not None:
        named = _runs_in(who.run.spec)
        kin = {who.run.id, who.run.parent, *named}
        if run.id in kin or run.parent == who.run.id:
            return
        for id in named:
            with contextlib.suppress(NotFound):
                if run.id in _runs_in(here.catalog.get(Run, id).spec):
                    return
        raise _not_named(who, f"run {run.id}")
    if who.sites and "*" not in who.sites:
        who.need_site(run.site)


def see_dataset(who: Caller, dataset: Dataset) -> None:
    """Raise `Denied` unless he may read this dataset version."""
    if who.run is not None and dataset.manifest not in who.run.opens:
        raise _not_named(who, f"dataset {dataset.name}@v{dataset.version}")


def read_blob(who: Caller, here: Context, blob: str) -> None:
    """Raise `Denied` unless he may read this blob."""
    if who.everything:
        return
    if who.run is not None:
        saved = {*(who.run.checkpoint or {}).values(), *(who.run.earlier or {}).values()}
        if blob not in who.run.opens and blob not in saved and _owner(here, blob) != who.run.id:
            raise _not_named(who, f"blob {blob}")
        return
    if who.sites and _served(here, who, blob):
        return
    try:
        record = here.catalog.get(Blob, blob)
    except NotFound:
        record = Blob(id=blob, uid="", wrapped="", size=0, owner="")
    _of_key(who, here, record, {})


def hand_over(who: Caller, here: Context, blobs: Iterable[str]) -> None:
    """Raise `Denied` unless he may have a Run read all of these: nobody reads by a Run what he may not read himself."""
    if who.everything or who.run is not None:
        return
    wanted, kinds = tuple(dict.fromkeys(blobs)), dict[str, str]()
    for start in range(0, len(wanted), _PAGE):
        for record in here.catalog.find(Blob, {"id": wanted[start : start + _PAGE]}, limit=_PAGE):
            _of_key(who, here, record, kinds)


def _of_key(who: Caller, here: Context, record: Blob, kinds: dict[str, str]) -> None:
    owner, blob = record.owner, record.id
    if record.scope and not who.may(record.scope):
        raise Denied(f"{who.name} may not read blob {blob}: that needs {record.scope}", permission=record.scope)
    if owner == who.name:
        return
    if owner and owner not in kinds:
        try:
            kinds[owner] = STAGES[here.catalog.get(Run, owner).stage].permission.replace(":write", ":read")
        except (NotFound, KeyError):
            kinds[owner] = ""
    permission = kinds.get(owner, "")
    if not permission or permission not in who.scopes:
        more = f": that needs {permission}" if permission else ""
        raise Denied(f"{who.name} may not read blob {blob}{more}", permission=permission or "*")


def _owner(here: Context, blob: str) -> str | None:
    try:
        return here.catalog.get(Blob, blob).owner
    except NotFound:
        return None


def _served(here: Context, who: Caller, blob: str) -> bool:
    """Whether a Service at one of the agent's Sites needs this blob."""
    opens = load("leptonai.serving.verbs:opens")
    after = None
    while page := here.catalog.find(Service, {} if "*" in who.sites else {"site": tuple(who.sites)}, after=after):
        for service in page:
            for id in opens(service):
                try:
                    if blob in here.catalog.get(Model, id).files.values():
                        return True
                except NotFound:
                    continue
        after = page[-1].id
    return False


def _words(value: Any) -> Iterable[str]:
    """Yield every text in a spec."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _words(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _words(item)


def _runs_in(spec: Any) -> set[str]:
    return {word for word in _words(spec) if _RUN.fullmatch(word)}


def _not_named(who: Caller, thing: str) -> Denied:
    return Denied(f"the token of {who.name} does not open {thing}", permission="*")
