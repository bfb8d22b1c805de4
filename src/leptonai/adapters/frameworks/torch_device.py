"""Where a PyTorch module computes, and in which precision: what was asked, or what the hardware does best."""

import torch

from leptonai.core.errors import FieldError, Unsupported


def _there() -> list[str]:
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, there in found.items() if there]


def chosen(asked: str) -> torch.device:
    """Return the device; "auto": a GPU where there is one. Raises `Unsupported` for one that is not there."""
    if asked == "auto":
        return torch.device(_there()[0])
    if asked not in _there():
        have = ", ".join(_there())
        raise Unsupported(
            f"device: there is no {asked} where the Run is, only {have}: leave device out, or run it at a Site that has one",
            errors=[FieldError("learning.device", f"one of {have}, auto")],
        )
    return torch.device(asked)


def rounded(asked: str, device: torch.device) -> torch.dtype | None:
    """Return what sums are rounded to; None: fp32 as it is. "auto": bf16 on a GPU that has units for it, else fp32.

    A processor without such units computes bf16 more slowly than fp32, so "auto" leaves it. Raises `Unsupported` for fp16
    on a processor, whose numbers are too small for gradients without a scale.
    """
    if asked == "auto":
        units = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if units else None
    if asked == "fp16" and device.type == "cpu":
        raise Unsupported(
            "precision: fp16 is for GPUs: use bf16 or fp32 on a processor",
            errors=[FieldError("learning.precision", "bf16 or fp32")],
        )
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[asked]
