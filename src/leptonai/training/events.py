"""Training curves as a TensorBoard event file."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any


def encoded(history: Mapping[str, Sequence[float]], times: Sequence[float]) -> bytes:
    """Return the bytes of an event file, ``events.out.tfevents.…``.

    Each metric is a scalar by epoch (from 0) at the Unix time when the epoch ended; validation metrics stand beside the
    others of their name: ``train/loss``, ``validation/loss``.
    """
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    events = [Event(wall_time=times[0] if times else 0.0, file_version="brain.Event:2")]
    for epoch, time in enumerate(times):
        values = [
            Summary.Value(tag=_tag(name), simple_value=series[epoch])
            for name, series in history.items()
            if epoch < len(series)
        ]
        events.append(Event(wall_time=time, step=epoch, summary=Summary(value=values)))
    return b"".join(map(_record, events))


def _record(event: Any) -> bytes:
    """Return an event as a record of the format TFRecord: its size, its bytes, and a checksum of each."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    size = struct.pack("<Q", len(data))
    return b"".join((size, _number(masked_crc32c(size)), data, _number(masked_crc32c(data))))


def _number(value: int) -> bytes:
    return struct.pack("<I", value)


def _tag(name: str) -> str:
    return f"validation/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}"
