"""What a study and a search for a model share: the rows they learn from and are measured on, and the train Runs that they leave."""

from collections.abc import Collection, Mapping
from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run, utcnow
from leptonai.core.refs import DatasetRef, Split
from leptonai.core.stages import Desk
from leptonai.core.states import RunState
from leptonai.tuning.spec import Kept


def check_beside(train: Mapping[str, Any], fields: Collection[str]) -> None:
    """Raise `Invalid` where a train spec has a field that stands beside it."""
    for field in fields:
        if field in train:
            raise Invalid(
                f"train: leave out {field}, which stands beside it", errors=[FieldError(f"train.{field}", "left out")]
            )


def halves(data: str, held_out: float, seed: int, desk: Desk) -> tuple[str, str]:
    """Return two parts of one exact dataset version as references: all rows but a share, and this share of them."""
    version = desk.dataset(data)
    given = DatasetRef(name=version.name) if data.startswith("ds_") else DatasetRef.parse(data)
    exact = given.model_copy(update={"name": version.name, "version": version.version, "on": None, "tag": None})

    def half(part: Any) -> str:
        split = Split(part=part, train_size=1 - held_out, seed=seed)
        return str(exact.model_copy(update={"splits": (*exact.splits, split)}))

    return half("train"), half("test")


def train_run(run: Run, kept: Kept, name: str) -> Run:
    """Return a train Run as if it had been asked for alone, under the Run that made it: to be evaluated, exported, asked again."""
    return Run.new(
        name=name,
        stage="train",
        spec=kept.spec,
        state=RunState.SUCCEEDED,
        site=run.site,
        parent=run.id,
        flavour=str(kept.spec["flavour"]),
        limits=run.limits,
        opens=tuple(dict.fromkeys((*run.opens, str(kept.spec["code"])))),
        max_attempts=run.max_attempts,
        attempt=1,
        started=run.started,
        ended=utcnow(),
        result=kept.fitted,
        by=run.by,
    )
