"""How many replicas a Service may have, and has: worker processes that compute a version which has no ONNX file."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from leptonai.core.errors import FieldError, Invalid


class Replicas(BaseModel):
    """How many processes compute a version of a Service that has no ONNX file: as many as its queue needs, within a range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(default=1, ge=1, le=64)
    max: int = Field(default=1, ge=1, le=64)
    wait_ms: float = Field(
        default=100.0, gt=0, le=60_000
    )  # nine in ten requests are to wait no longer before they are computed
    down_seconds: float = Field(default=30.0, ge=0.5, le=86400)  # for which fewer must have been enough before one goes

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise Invalid(
                f"replicas {self.min}..{self.max}: the smaller number comes first, such as {self.max}..{self.min}",
                errors=[FieldError("replicas", "MIN..MAX")],
            )
        return self

    def __str__(self) -> str:
        return f"{self.min}..{self.max}" if self.min < self.max else str(self.min)


class Scaled(BaseModel):
    """How many replicas of a Service there are: what its Site said last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wanted: int = Field(ge=0, le=4096)
    ready: int = Field(ge=0, le=4096)
    why: str = Field(default="", max_length=500)  # there are as many, or no more
