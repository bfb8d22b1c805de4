"""The pepper of a dataset: the key of keyed digests of its values, by which equal content is known as equal and nothing is guessed.

It is kept like the data key of a blob, so that a rotation wraps it again; and it goes when the dataset is shredded.
"""

import secrets

from leptonai.core.errors import Conflict, NotFound
from leptonai.core.ports import DataKey
from leptonai.server.context import Context

_PREFIX = "pepper of "


def id_of(name: str) -> str:
    """Return the id of the record that holds the pepper of a dataset; no blob has such a one."""
    return f"{_PREFIX}{name}"


def of(here: Context, name: str) -> bytes:
    """Return the pepper of a dataset, made when it is asked for the first time."""
    id = id_of(name)
    keyring = here.keyring("server")
    try:
        return keyring.find(id).secret
    except NotFound:
        made = DataKey(id, secrets.token_bytes(32))
    try:
        keyring.bind(id, made, 0, id)
    except Conflict:  # another Run was faster
        return keyring.find(id).secret
    return made.secret
