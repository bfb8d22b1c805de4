"""Training curves as a TensorBoard event file."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def write(folder: Path, history: Mapping[str, Sequence[float]], times: Sequence[float]) -> bytes:
    """Write ``events.out.tfevents.…`` into `folder` and return its bytes.

    Each metric is a scalar by epoch (from 0) at the Unix time when the epoch ended; validation metrics stand beside the
    others of their name: ``train/loss``, ``validation/loss``.
    """
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    start = times[0] if times else 0.0
    path = folder / f"events.out.tfevents.{int(start)}.leptonai"
    path.unlink(missing_ok=True)
    writer = RecordWriter(str(path))
    try:
        writer.write(Event(wall_time=start, file_version="brain.Event:2").SerializeToString())
        for epoch, time in enumerate(times):
            values = [
                Summary.Value(tag=_tag(name), simple_value=series[epoch])
                for name, series in history.items()
                if epoch < len(series)
            ]
            writer.write(Event(wall_time=time, step=epoch, summary=Summary(value=values)).SerializeToString())
    finally:
        writer.close()
    return path.read_bytes()


def _tag(name: str) -> str:
    return f"validation/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}"
