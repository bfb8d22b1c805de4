"""Cross-validates candidates on the rows of a Run, one fold at a time, and makes a train Run's result of the one that is chosen."""

import math
import random
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core import plugins
from leptonai.core.errors import FieldError, Invalid, MissingExtra
from leptonai.core.stages import HOLD, SCORE, THREADS, Handle, load
from leptonai.training import trainee
from leptonai.training.auto import blending, models
from leptonai.training.auto.families import Candidate, lacking, names, planned
from leptonai.training.auto.held import held
from leptonai.training.auto.series import Line, line_of
from leptonai.training.crossing import By, asked_of, fold_of, places_of
from leptonai.training.encoder import targets
from leptonai.training.labelled import Chosen
from leptonai.training.spec import Encoding, Train
from leptonai.training.work import Subject, encoding_of, fitted_of, labelled, learn, rows_of

Array = NDArray[Any]
_FOLDS = 5
_ROWS = 20_000  # beyond which not all folds are judged
_FEW = 5_000  # below which threads wait for each other longer than they compute
_VALUES = 5_000_000  # so does this number of values
_DEARER = 5  # times as much as one of a table costs a value of a picture: networks learn from it


class Bench:
    """The rows of an auto Run, and the candidates for them. Reading the rows happens here: raises `Invalid`.

    `train`: a train spec, exact, without a model; `asked`: the fields of `tuning.auto.spec.Auto`.
    """

    def __init__(self, train: Mapping[str, Any], asked: Mapping[str, Any], handle: Handle):
        self._spec = spec = Train.model_validate(train)
        self._asked, self._handle = dict(asked), handle
        self._kind = str(asked["kind"])
        known = (*names(self._kind), "blend")
        if unknown := [name for name in asked["families"] if name not in known]:
            right = f"some of {', '.join(known)}"
            raise Invalid(
                f"families: there is no {unknown[0]!r} for a {self._kind}: use {right}",
                errors=[FieldError("families", right)],
            )
        self._lacking = lacking(self._kind)
        for name in asked["families"]:
            if name in self._lacking:
                raise MissingExtra(f"families: {name} needs  pip install 'lepton-ai-sdk[{self._lacking[name]}]'")
        if spec.checks:
            load(HOLD)(spec.checks, spec.data, handle)
        self._reader = held(labelled(spec, handle.data(spec.data), spec.data, handle))
        self._whole = self._encoding()
        self._line: Line | None = None
        if self._kind == "series":
            self._line = line = line_of(self._reader, self._whole, self._asked, spec.data)
            self._spec = spec = spec.model_copy(update={"features": line.features})
            self._whole = self._encoding()
        self._truth = targets(self._whole, self._reader.read((self._whole.target,)))
        _check_truth(self._truth, self._whole, spec.data)
        self.folds = self._line.folds if self._line else self._folds()
        by: By = asked["by"]
        self._places = (
            self._line.windows
            if self._line
            else places_of(self._reader, self._whole, self.folds, by, asked["column"], spec.seed)
        )
        width = sum(math.prod(feature.shape) for feature in self._whole.features)
        width *= _DEARER if self._kind == "image" else 1
        self.judged = self.folds if by in ("group", "time") else _judged(self._reader.rows, width, self.folds)
        self._said: dict[int, Array] = {}  # by fold, of the candidate at work
        if self._reader.rows < _FEW:
            load(THREADS)(1)

    @property
    def facts(self) -> dict[str, Any]:
        """What the search needs to know of the rows."""
        classes = len(self._whole.classes)
        default = "rmse" if self._whole.task == "regression" else "roc_auc" if classes == 2 else "accuracy"
        return {
            "task": self._whole.task, "metric": self._asked["metric"] or default, "folds": self.folds, "judged": self.judged,
            "rows": self._reader.rows, "blends": blending.FAMILIES.get(self._kind, ()),
            "notes": (*(self._line.notes if self._line else ()), *self._untried()),
        }  # fmt: skip

    def planned(self) -> list[dict[str, Any]]:
        """Return all candidates there may be, in the order in which they are tried."""
        found = planned(self._kind, tuple(self._asked["families"]), int(self._asked["candidates"]), self._spec.seed)
        more = self._line.settings if self._line else {}
        return [vars(one) | {"settings": {**one.settings, **more}} for one in found]

    def _untried(self) -> list[str]:
        return [
            f"{name} is not tried: it needs  pip install 'lepton-ai-sdk[{extra}]'"
            for name, extra in self._lacking.items()
        ]

    # ------------------------------------------------------------------------------------------------ one fold

    def fold(self, candidate: Mapping[str, Any], fold: int) -> tuple[dict[str, float], float]:
        """Have a fold judged by a model of the other ones; return its metrics, and the seconds it took."""
        if fold == 0:
            self._said = {}
        self._seed()
        began = time.perf_counter()
        kept, asked = self._parts(fold)
        scores = fold_of(
            self._subject(candidate), Chosen(self._reader, kept), Chosen(self._reader, asked), self._whole, self._handle
        )
        self._said[fold] = scores
        return self._scored(self._truth[asked], scores), time.perf_counter() - began

    def said(self) -> str:
        """Keep what the candidate at work said of all folds; return the blob."""
        file = BytesIO()
        np.savez(file, **{str(fold): scores for fold, scores in self._said.items()})  # type: ignore[arg-type]
        return self._handle.blobs.write([file.getvalue()]).id

    def _parts(self, fold: int) -> tuple[Array, Array]:
        if self._asked["by"] == "time":
            return (self._places >= 0) & (self._places < fold + 1), self._places == fold + 1
        return self._places != fold, self._places == fold

    # ---------------------------------------------------------------------------------------------- all together

    def blend(self, members: Sequence[Mapping[str, Any]], blobs: Sequence[str]) -> dict[str, Any] | None:
        """Weigh candidates so that together they err least; None where one alone does.

        Returns the candidate, with the metrics of each fold: of weights that were found without it.
        """
        said = [self._read(blob) for blob in blobs]
        truth = {fold: self._truth[self._parts(fold)[1]] for fold in said[0]}
        found = blending.weighed(said, truth, self._whole.task)
        if found is None:
            return None
        whole = {member["name"]: weight for member, weight in zip(members, found.weights, strict=True) if weight > 0}
        scores = [self._scored(truth[fold], found.said[fold]) for fold in sorted(truth)]
        parts = [dict(member) for member in members if member["name"] in whole]
        words = "the weighted mean of " + ", ".join(whole)
        made = Candidate("blend", "blend", words, {"weights": whole, "members": parts})
        return {"candidate": vars(made), "scores": scores}

    def keep(self, candidate: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Have it learn from all rows but those of the test; return a train spec, its result, and what the test says."""
        self._seed()
        subject = self._subject(candidate)
        framework = subject.framework
        code = self._handle.blobs.write([self._packed]).id
        subject = subject._replace(code=code)
        encoding = encoding_of(subject, self._reader, trainee.Traits.of(subject.learner)).model_copy(
            update={"classes": self._whole.classes}
        )
        ready = rows_of(subject, encoding, self._reader, self._handle)
        course = learn(subject, ready, None, self._handle)
        fitted = fitted_of(subject, ready, course, self._handle)
        named = {"code": code, "framework": framework.name, "flavour": subject.flavour}
        spec = subject.spec.model_copy(update=named)
        tested = self._tested(subject, encoding)
        return spec.model_dump(mode="json"), fitted.model_dump(mode="json"), tested

    def _tested(self, subject: Subject, encoding: Encoding) -> dict[str, Any]:
        if self._asked["test"] is None:  # the last of its own steps
            kept, asked = self._parts(self.folds)
            scores = fold_of(
                subject, Chosen(self._reader, kept), Chosen(self._reader, asked), self._whole, self._handle
            )
            return self._measured(encoding, self._truth[asked], scores)
        where = str(self._asked["test"])
        reader = labelled(self._spec, self._handle.data(where), where, self._handle)
        if not reader.rows:
            raise Invalid(
                f"{where} has no rows to measure the chosen model on", errors=[FieldError("test", "some rows")]
            )
        truth = targets(encoding, reader.read((encoding.target,)))
        scores = asked_of(subject.learner, encoding, reader)
        if not np.isfinite(scores).all():
            row = int((~np.isfinite(scores.reshape(len(scores), -1))).any(axis=1).argmax())
            raise Invalid(
                f"row {row} of {where} cannot be told: it is not among the steps that follow on the last one of {self._spec.data}; "
                "give a test within the horizon",
                errors=[FieldError("test", "steps within the horizon")],
            )
        return self._measured(encoding, truth, scores)

    def _measured(self, encoding: Encoding, truth: Array, scores: Array) -> dict[str, Any]:
        found: dict[str, Any] = load(SCORE)(encoding.task, encoding.classes, truth, scores, 1000, self._spec.seed)
        return found

    # --------------------------------------------------------------------------------------------------- inside

    def _seed(self) -> None:
        random.seed(self._spec.seed)
        np.random.seed(self._spec.seed)

    def _encoding(self) -> Encoding:
        """Return how rows come to an estimator; tells of columns and a target that cannot be learnt from."""
        plain = self._spec.model_copy(update={"scale": False, "category_encoding": "index"})
        framework: Any = plugins.framework("sklearn")
        packed = framework.pack(models.stand_in(self._kind), {})
        learner = framework.load(packed.code)
        subject = Subject(framework, "", packed.flavour, learner, plain, lambda: learner)
        return encoding_of(subject, self._reader, trainee.Traits.of(learner))

    def _folds(self) -> int:
        asked, rows = self._asked["folds"], self._reader.rows
        if self._whole.task == "regression" or self._asked["by"] in ("group", "time", "rows"):
            least, what = rows // 2, f"{self._spec.data} has {rows} rows"
        else:
            counts = np.bincount(self._truth, minlength=len(self._whole.classes))
            rarest = int(np.where(counts > 0, counts, counts.max()).argmin())
            least = int(counts[rarest])
            what = f"the target {self._whole.target!r} has {least} {'row' if least == 1 else 'rows'} of class {self._whole.classes[rarest]!r} in {self._spec.data}"
        if least < (asked or 2):
            few = "ask for fewer folds, " if asked and least >= 2 else ""
            raise Invalid(
                f"{what}, too few for {asked or 2} folds: {few}add rows, or leave those of that class out",
                errors=[FieldError("folds", f"at most {least}" if least >= 2 else "more rows")],
            )
        return int(asked or min(_FOLDS, least))

    def _subject(self, candidate: Mapping[str, Any]) -> Subject:
        if candidate["family"] == "blend":
            parts = {part["name"]: self._made(part) for part in candidate["settings"]["members"]}
            weights = candidate["settings"]["weights"]
            together = models.blend({name: (one.model, weights[name]) for name, one in parts.items()}, self._whole.task)
            made = next(iter(parts.values()))._replace(model=together)
        else:
            made = self._made(candidate)
        framework = plugins.framework(made.framework)
        packed = framework.pack(made.model, made.compiled)
        self._packed = packed.code
        return Subject(
            framework, "", packed.flavour, framework.load(packed.code), made.spec, lambda: framework.load(packed.code)
        )

    def _made(self, candidate: Mapping[str, Any]) -> models.Made:
        return models.made(candidate, self._kind, self._whole, self._spec, self._reader.columns)

    def _scored(self, truth: Array, scores: Array) -> dict[str, float]:
        found: dict[str, Any] = load(SCORE)(self._whole.task, self._whole.classes, truth, scores, 0, self._spec.seed)
        return dict(found["metrics"])

    def _read(self, blob: str) -> dict[int, Array]:
        with self._handle.blobs.open(blob) as file, np.load(BytesIO(file.read()), allow_pickle=False) as parts:
            return {int(name): parts[name] for name in parts.files}


def _judged(rows: int, width: int, folds: int) -> int:
    """Return how many of the folds are judged: all, but where the rows are many, and each fold tells enough."""
    if rows <= _ROWS and rows * width <= _VALUES:
        return folds
    return min(folds, 3) if rows <= 10 * _ROWS and rows * width <= 3 * _VALUES else 1


def _check_truth(truth: Array, encoding: Encoding, where: str) -> None:
    if encoding.task == "regression" and (truth == truth.reshape(-1)[0]).all():
        raise Invalid(
            f"the target {encoding.target!r} has one value only, {float(truth.reshape(-1)[0]):g}, in {where}: there is nothing to learn",
            errors=[FieldError(encoding.target, "at least two values")],
        )
