"""The message classes of the protocol, made of the descriptors beside this file.

They are kept in a pool of their own: the pool that all of a process share would refuse them beside another library's classes
of the same names, such as those of Triton's client.
"""

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from leptonai.core.errors import Invalid

_POOL = descriptor_pool.DescriptorPool()


def _add(file: str) -> None:
    data = resources.files(__package__).joinpath(file).read_bytes()
    for described in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        _POOL.Add(described)


_add("inference.binpb")
_add("health.binpb")


def message(name: str) -> Any:
    """Return the class of a message, by its full name such as ``inference.ModelInferRequest``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


def decoded(kind: Any, data: bytes) -> Any:
    """Return a message of a class from its bytes. Raises `Invalid`."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise Invalid(f"the message is no {kind.DESCRIPTOR.name}: it cannot be decoded") from None


def pool() -> descriptor_pool.DescriptorPool:
    """Return the pool that holds them all."""
    return _POOL


ModelInferRequest = message("inference.ModelInferRequest")
ModelInferResponse = message("inference.ModelInferResponse")
