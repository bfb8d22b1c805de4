"""Shredding: the keys of a dataset are destroyed, so that no copy of it can be read any more, wherever it lies.

In order: the records of all versions and the keys of their blobs go in one transaction, with a row in the audit that says so; the
bytes are deleted; each blob is tried; and a receipt, signed with Ed25519, says what was found. What was cut is finished by shredding
again. A rotation of the key-encryption key follows, so that what a database or its backup keeps of the dropped records opens nothing.
"""

import base64
import contextlib
import json
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from leptonai.core.errors import Busy, Conflict, Corrupt, LeptonError, NotFound, Stale
from leptonai.core.nouns import Audit, Blob, Dataset, Record, Run
from leptonai.core.stages import STAGES
from leptonai.server import holding, peppers, rotation, telling
from leptonai.server.context import Context

BEGUN, DONE = "dataset.shred", "dataset.shredded"
_PAGE = 500
_TURNS = 5


def shred(here: Context, name: str, by: str) -> dict[str, Any]:
    """Destroy all versions of a dataset and return the signed receipt. Raises `NotFound`, `Conflict` while a Run reads it."""
    begun = _begin(here, name, by) or _unfinished(here, name)
    if begun is None:
        raise NotFound(f"there is no dataset {name}: see  lepton dataset list")
    for blob in begun.facts["destroyed"]:
        here.raw.delete(blob)
    readable = [blob for blob in begun.facts["destroyed"] if _opens(here, blob)]
    if readable:
        raise Corrupt(f"{len(readable)} blobs of dataset {name} can still be read: shred it again")
    if begun.facts["keys"]:
        rotation.begin(here.catalog, here.keyfile, by)
    facts = {
        **begun.facts,
        "begun": begun.id,
        "tried": len(begun.facts["destroyed"]),
        "readable": 0,
        "rotated_to": here.keyfile.current,
    }
    receipt = Audit.new(name=DONE, subject=name, by=by)
    signed = _signed(here, receipt, facts)
    here.catalog.add(receipt.model_copy(update={"facts": signed}))
    return {"id": receipt.id, "created": receipt.created.isoformat(), **signed}


def _begin(here: Context, name: str, by: str) -> Audit | None:
    """Drop the records and the keys, all or none; None where there is no version."""
    for _ in range(_TURNS):
        versions = here.catalog.find(Dataset, {"name": name}, limit=10_000)
        if not versions:
            return None
        with contextlib.suppress(Stale):  # a key is being wrapped again, or a version was made
            return _drop(here, name, versions, by)
    raise Busy(f"dataset {name} changes too fast: try again", retry_after=1.0)


def _drop(here: Context, name: str, versions: Sequence[Dataset], by: str) -> Audit:
    mine, shared = holding.only_of(here.catalog, versions)
    made = [run for run in _runs(here, versions) if run.state.ended]
    told = telling.runs(here.catalog, name, {version.id for version in versions})
    runs = [*made, *told]
    left = [
        *(blob for run in runs for blob in _left_by(run)),
        *(blob for run in told for blob in holding.words(run.result)),
    ]
    blobs = dict.fromkeys([*mine, *left, peppers.id_of(name)])
    blobs = {blob: None for blob in blobs if blob not in shared}
    _refuse_readers(here, name, {*blobs, *shared})
    labels = telling.labels(here.catalog, name)
    keys: list[Blob] = []
    wanted = tuple(blobs)
    for start in range(0, len(wanted), _PAGE):
        keys += here.catalog.find(Blob, {"id": wanted[start : start + _PAGE]}, limit=_PAGE)
    facts = {
        "versions": [{"version": one.version, "digest": one.digest, "rows": one.rows} for one in versions],
        "destroyed": [blob for blob in wanted if blob in mine or any(key.id == blob for key in keys)],
        "keys": len(keys),
        "reports": len(told),  # of profiles, checks, comparisons, and of models that looked at labels
        "labels": len(labels),  # records of label tasks, and of what people answered
        "shared": list(shared),  # with versions of other datasets: those, and their keys, stay
    }
    tags = telling.tags(here.catalog, name)
    begun = Audit.new(name=BEGUN, subject=name, by=by, facts=facts)
    gone: list[Record] = [*versions, *keys, *runs, *labels, *tags]
    here.catalog.change(add=(begun,), drop=gone)
    return begun


def _runs(here: Context, versions: Sequence[Dataset]) -> list[Run]:
    """Return the Runs that made the versions: their results tell of the values."""
    ids = tuple({version.run for version in versions if version.run is not None})
    found: list[Run] = []
    for start in range(0, len(ids), _PAGE):
        found += here.catalog.find(Run, {"id": ids[start : start + _PAGE]}, limit=_PAGE)
    return [run for run in found if run.stage in STAGES and STAGES[run.stage].permission == "dataset:write"]


def _left_by(run: Run) -> list[str]:
    """Return the blobs that hold rows beside the version: what was uploaded, checkpoints, a report."""
    spec = run.spec
    parts = [part for file in spec.get("files", ()) for part in file.get("parts", ())]
    more = [spec.get("index"), (run.result or {}).get("report")]
    return [
        *parts,
        *spec.get("parts", ()),
        *(run.checkpoint or {}).values(),
        *(run.earlier or {}).values(),
        *(one for one in more if one),
    ]


def _refuse_readers(here: Context, name: str, blobs: set[str]) -> None:
    for run in holding.every(here.catalog, Run):
        if not run.state.ended and blobs & set(run.opens):
            raise Conflict(f"run {run.id} reads dataset {name}: wait for it, or cancel it (lepton run cancel {run.id})")


def _unfinished(here: Context, name: str) -> Audit | None:
    """Return what was begun and has no receipt yet."""
    done = {row.facts.get("begun") for row in here.catalog.find(Audit, {"name": DONE, "subject": name}, limit=1000)}
    begun = here.catalog.find(Audit, {"name": BEGUN, "subject": name}, limit=1000)
    return next((row for row in begun if row.id not in done), None)


def _opens(here: Context, blob: str) -> bool:
    """Whether anything of a blob can be read: its key, its plaintext, or its bytes."""
    sealed = here.sealed("server")
    for attempt in (lambda: here.keyring("server").find(blob), lambda: sealed.open(blob), lambda: here.raw.open(blob)):
        try:
            found = attempt()
            if hasattr(found, "close"):
                found.close()
        except NotFound:
            continue
        except LeptonError:
            return True  # what cannot be tried is not proved
        return True
    return False


# --------------------------------------------------------------------------------------------- receipts


def _key(here: Context) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(here.keyfile.derive("receipts"))


def _text(receipt: Audit, facts: dict[str, Any]) -> bytes:
    about = {"id": receipt.id, "name": receipt.name, "subject": receipt.subject, "by": receipt.by}
    signed = {**about, "created": receipt.created.isoformat(), "facts": facts}
    return json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()


def _signed(here: Context, receipt: Audit, facts: dict[str, Any]) -> dict[str, Any]:
    key = _key(here)
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    return {**facts, "public_key": public, "signature": base64.b64encode(key.sign(_text(receipt, facts))).decode()}


def valid(here: Context, receipt: Audit) -> bool:
    """Whether a receipt is as this server signed it."""
    facts = {name: value for name, value in receipt.facts.items() if name not in ("public_key", "signature")}
    public: Ed25519PublicKey = _key(here).public_key()
    try:
        public.verify(base64.b64decode(receipt.facts["signature"]), _text(receipt, facts))
    except (InvalidSignature, KeyError, ValueError, TypeError):
        return False
    return True
