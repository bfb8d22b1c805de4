"""What a Service keeps of its requests and answers."""

from pydantic import BaseModel, ConfigDict, Field


class PredictionLog(BaseModel):
    """What is kept of the requests of a Service and of their answers, for monitoring, replay and labelling."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=0.01, ge=0, le=1)  # of the requests; 0: none
    drop: tuple[str, ...] = ()  # inputs that are left out, such as names of people
    hash: tuple[str, ...] = ()  # inputs of which a keyed digest is kept, so that equal values stay equal
    days: int = Field(default=7, ge=1, le=3650)  # after which it is deleted
    megabytes: float = Field(default=64.0, gt=0, le=1e6)  # a day, as Parquet; what goes beyond is counted and not kept
