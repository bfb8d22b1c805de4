"""The loop of a training: epochs, batches, validation, early stopping, checkpoints."""

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

from leptonai.core.ahead import ahead
from leptonai.core.errors import FieldError, Invalid, LeptonError
from leptonai.core.ports import Learner
from leptonai.core.stages import Handle, Shuffle
from leptonai.training import checkpoint, sharing, trainee, trouble
from leptonai.training.augment.apply import Augmenter
from leptonai.training.callbacks import Callbacks
from leptonai.training.checkpoint import Course, Keeper, Stopped
from leptonai.training.rates import Rates
from leptonai.training.rows import READY, Rows
from leptonai.training.sharing import Group
from leptonai.training.spec import EarlyStopping, Encoding, Train
from leptonai.training.watch import is_more_better

_PROGRESS_SECONDS = 0.25  # at most four lines of progress a second
_ROUNDS_SECONDS = 5.0  # between checkpoints of a model that boosts, at most: it is small


@dataclass
class Loop:
    """Everything one training needs; `run` goes on from where `course` is."""

    spec: Train
    handle: Handle
    learner: Learner
    encoding: Encoding
    rows: Rows
    validation: Rows | None
    course: Course
    augmenter: Augmenter | None = None
    callbacks: Callbacks | None = None  # called in the first process only
    group: Group | None = None  # the other processes that learn, too
    by_rounds: bool = False  # an epoch is a round of boosting, of one batch: there may be thousands, of milliseconds

    def run(self) -> None:
        """Train to the end. When told to stop (SIGTERM, Ctrl-C) leave a checkpoint and raise."""
        self._shown = 0.0
        self._safe = (self.course.epoch, self.course.batch)  # where the last checkpoint is
        self._saved = time.monotonic()
        self._rates = Rates(self.spec.learning.schedule, self.course, self.spec.epochs, self._batches)
        with Keeper(self.handle) as keeper, checkpoint.told_to_stop() as asked:
            try:
                self._call("on_train_begin")
                while self.course.epoch < self.spec.epochs:
                    self._epoch(keeper, asked)
                    if self._ended_early():
                        break
                    if not self.by_rounds or time.monotonic() - self._saved >= self._patience:
                        self._save_if_free(keeper)
            finally:
                keeper.wait()
        self._restore_best()
        self._call("on_train_end", *self._latest())

    @property
    def _first(self) -> bool:
        return sharing.rank_of(self.handle).number == 0

    @property
    def _patience(self) -> float:
        return min(self.spec.checkpoint_seconds, _ROUNDS_SECONDS)

    def _call(self, hook: str, *args: Any) -> None:
        if self.callbacks and self._first:
            self.callbacks.call(hook, *(args or ({},)))
        if self.callbacks and self.group is not None and hook != "on_train_batch_end":
            self.group.align()  # they may have changed weights

    def _latest(self) -> list[dict[str, float]]:
        return [{name: values[-1] for name, values in self.course.history.items() if values}]

    def _epoch(self, keeper: Keeper, asked: Event) -> None:
        course, size = self.course, self.spec.batch_size
        if said := trainee.thaw(self.learner, course.epoch):
            self.handle.say(said)
        if course.batch == 0:
            self._call("on_epoch_begin", course.epoch, {})
        each = self.callbacks is not None and self.callbacks.each_batch
        shuffle = Shuffle(self.spec.seed, course.window) if self.spec.shuffle else None
        began = time.perf_counter()
        given = self.rows.batches(size, shuffle, course.epoch, course.batch * size)
        if self.augmenter is not None:  # beside the training, a little ahead of it
            given = ahead(self._augmented(given, self.augmenter), READY)
        with closing(given) as batches:
            for x, y in batches:
                self._rates.set(self.learner)
                if self.group is not None:
                    self.group.ask(stop=asked.is_set(), save=self._first and self._due(keeper))
                try:
                    with self._users_code("training"):
                        self.learner.step(x, y)
                except MemoryError as error:
                    trainee.alone(self.learner)
                    raise trouble.no_memory(error, len(x), partial(self._first_rows, x, y)) from None
                course.batch += 1
                if each:
                    self._call("on_train_batch_end", course.batch - 1, {"loss": trainee.last_loss(self.learner)})
                now = time.perf_counter()
                course.seconds += now - began
                began = now
                self._after_batch(keeper, asked)
        metrics = self._measured(asked)
        course.seconds += time.perf_counter() - began
        self._note(metrics)

    def _after_batch(self, keeper: Keeper, asked: Event) -> None:
        if not math.isfinite(trainee.last_loss(self.learner)):
            raise trouble.not_a_number(self.course, self._safe, self.spec.learning)
        now = time.monotonic()
        if now - self._shown >= _PROGRESS_SECONDS:
            self._shown = now
            self._progress()
        stop, save = (asked.is_set(), self._due(keeper)) if self.group is None else self.group.asked
        if stop:
            if not self.by_rounds:  # within a round nothing is whole
                self._save(keeper)
            raise Stopped("the process was told to end; a checkpoint was left")
        if save and trainee.sound(self.learner):
            self._save(keeper)

    def _due(self, keeper: Keeper) -> bool:
        every = self.spec.checkpoint_seconds
        return bool(every) and not self.by_rounds and time.monotonic() - self._saved >= every and not keeper.busy

    def _augmented(self, given: Iterator[Any], augmenter: Augmenter) -> Generator[Any, None, None]:
        for number, (x, y) in enumerate(given, self.course.batch):
            place = self.rows.place(self.spec.batch_size, number)
            yield augmenter(x, y, self.course.epoch, place) if len(x) else (x, y)

    @property
    def _batches(self) -> int:
        return self.rows.steps(self.spec.batch_size)

    def _progress(self) -> None:
        done = self.course.epoch * self._batches + self.course.batch
        self.handle.progress(done, self.spec.epochs * self._batches, "batches")

    def _measured(self, asked: Event) -> dict[str, float]:
        metrics = dict(self.learner.metrics())
        if self.validation is not None:
            with closing(self.validation.batches(self.spec.batch_size)) as batches, self._users_code("validation"):
                for x, y in batches:
                    self.learner.measure(x, y)
                    if asked.is_set():  # between metrics there is nothing whole to save
                        raise Stopped("the process was told to end")
            metrics |= {f"val_{name}": value for name, value in self.learner.metrics().items()}
        return metrics

    def _note(self, metrics: dict[str, float]) -> None:
        course = self.course
        for name, value in metrics.items():
            course.history.setdefault(name, []).append(value)
        course.times.append(time.time())
        course.epoch, course.batch = course.epoch + 1, 0
        self.handle.log(course.epoch, **{name: value for name, value in metrics.items() if math.isfinite(value)})
        now = time.monotonic()
        if not self.by_rounds or now - self._shown >= _PROGRESS_SECONDS or course.epoch == self.spec.epochs:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.handle.say(f"{'round' if self.by_rounds else 'epoch'} {course.epoch}/{self.spec.epochs}: {shown}")
            self._shown = now
            self._progress()
        self._call("on_epoch_end", course.epoch - 1, dict(metrics))
        if said := self._rates.look(metrics):
            self.handle.say(said)
        if self.spec.early_stopping is not None:
            self._compare(self.spec.early_stopping, metrics)

    def _compare(self, rule: EarlyStopping, metrics: dict[str, float]) -> None:
        course = self.course
        if rule.monitor not in metrics:
            raise Invalid(
                f"early_stopping: there is no metric {rule.monitor!r} to watch; measured are {', '.join(metrics)}",
                errors=[FieldError("early_stopping.monitor", f"one of {', '.join(metrics)}")],
            )
        value = metrics[rule.monitor]
        gain = (
            (value - course.best if is_more_better(rule.monitor, rule.mode) else course.best - value)
            if course.best is not None
            else math.inf
        )
        if math.isfinite(value) and gain > rule.min_delta:
            course.best, course.best_epoch, course.waited = value, course.epoch, 0
            if rule.restore_best:
                course.best_kept = trainee.keep(self.learner)
        else:
            course.waited += 1

    def _ended_early(self) -> bool:
        if self.callbacks and sharing.decided(self.group, self.callbacks.stopped is not None):
            self.handle.say(f"stopped after epoch {self.course.epoch}: callback {self.callbacks.stopped} asked for it")
            return True
        rule = self.spec.early_stopping
        if rule is None or not self.course.waited or self.course.waited < rule.patience:
            return False
        self.handle.say(
            f"stopped after epoch {self.course.epoch}: {rule.monitor} has not got better for {self.course.waited} epochs"
        )
        return True

    def _restore_best(self) -> None:
        if self.course.best_kept is not None and self.course.best_epoch != self.course.epoch:
            self.handle.say(f"went back to the weights of epoch {self.course.best_epoch}")
            trainee.bring_back(self.learner, self.course.best_kept)

    def _save_if_free(self, keeper: Keeper) -> None:
        if not (trainee.sound(self.learner) and trainee.may_save(self.learner)):
            return  # the loss of the next batch will say so, and what was kept stays good
        # Epochs of milliseconds must not wait for the disk: then every few of them leave a checkpoint.
        if sharing.decided(self.group, not keeper.busy):
            self._save(keeper)

    def _save(self, keeper: Keeper) -> None:
        self._saved = time.monotonic()
        self._safe = (self.course.epoch, self.course.batch)
        others = {} if self.group is None else sharing.own_files(self.group, sharing.own_state(self.learner))
        if not self._first:
            return
        files = others | checkpoint.write(self.course, self.encoding, self.learner)
        keeper.save(files | {"callbacks.json": self.callbacks.state()} if self.callbacks else files)

    def _first_rows(self, x: Any, y: Any, count: int) -> None:
        self.learner.step(x[:count], y[:count])

    @contextmanager
    def _users_code(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (LeptonError, MemoryError, OSError):
            raise
        except (Exception, SystemExit) as error:
            if trouble.is_memory(error):
                raise MemoryError(str(error)) from None
            what = f"{type(error).__name__}: {error}"
            if isinstance(error, SystemExit):
                what = f"it called sys.exit({error.code!r}), which ends no Run: raise an error, or return"
            short = " ".join(what.split())[:500]
            raise Invalid(
                f"the model failed in epoch {self.course.epoch + 1}, batch {self.course.batch + 1} of {doing}: {short}",
                errors=[FieldError("model", short)],
            ) from error
