"""What a training Run does, and a Run that predicts. Runs in a process of its own, where the user's code may be loaded."""

import json
import platform
import random
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import Any, NamedTuple, cast

import numpy as np

from leptonai.core import plugins
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.learning import FIND, Way
from leptonai.core.ports import Framework, Learner
from leptonai.core.several import Several
from leptonai.core.stages import HOLD, UNPACK, Handle, Reader, load
from leptonai.training import (
    amounts,
    balance,
    checkpoint,
    defaults,
    encoder,
    events,
    fast_path,
    mitigating,
    one_fit,
    pretrained_work,
    rate_finder,
    rounds,
    several,
    sharing,
    trainee,
    trouble,
)
from leptonai.training.augment.apply import Augmenter
from leptonai.training.augment.smote import smote
from leptonai.training.augment.spec import Smote
from leptonai.training.callbacks import Callbacks
from leptonai.training.checkpoint import Course, Saved
from leptonai.training.labelled import Labelled, may_lack
from leptonai.training.loop import Loop
from leptonai.training.rows import MEMORY, Rows
from leptonai.training.spec import Encoding, Fitted, Predict, Train

_LIBRARIES = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "jax": ("jax",),
    "sklearn": ("scikit-learn",),
    "transformers": ("torch", "transformers", "peft"),
}


class Subject(NamedTuple):
    """The model of a Run: whose it is, its code, and the Learner made of it."""

    framework: Framework
    code: str  # blob
    flavour: str
    learner: Learner
    spec: Train  # with what a model that was picked here needs
    fresh: Callable[[], Learner]  # makes another Learner, as it was before it learnt


def train(spec: Train, handle: Handle) -> dict[str, Any]:
    """Train, and return a `Fitted`. Goes on from the last checkpoint of an earlier attempt, if there is one."""
    random.seed(spec.seed)  # layers draw their seeds when they are made
    np.random.seed(spec.seed)
    own = given(spec, handle)  # first of all: user code starts, or fails, before any data is read
    if spec.checks:
        load(HOLD)(spec.checks, spec.data, handle)
    reader = labelled(spec, handle.data(spec.data), spec.data, handle)
    saved = checkpoint.last(handle)
    subject = own or picked(spec, reader, handle)
    if saved:
        encoding = saved.encoding
    else:
        encoding = encoding_of(subject, reader, trainee.Traits.of(subject.learner))
        encoding = pretrained_work.encoded(spec, encoding, handle)
    subject = _suited(subject, encoding)
    ready = rows_of(subject, encoding, reader, handle)
    course = learn(subject, ready, saved, handle)
    if sharing.rank_of(handle).number:
        return {}  # the first process tells what all of them learnt
    return fitted_of(subject, ready, course, handle).model_dump(mode="json")


def _suited(subject: Subject, encoding: Encoding) -> Subject:
    told, fresh = several.how(encoding), subject.fresh
    if told == Several():
        return subject
    return subject._replace(learner=trainee.suited(subject.learner, told), fresh=lambda: trainee.suited(fresh(), told))


class Ready(NamedTuple):
    """Encoded rows to learn from: those that several trainings of one study share."""

    reader: Reader
    encoding: Encoding
    rows: Rows
    validation: Rows | None


def rows_of(subject: Subject, encoding: Encoding, reader: Reader, handle: Handle) -> Ready:
    """Read and encode the rows that a model learns from, and those it is measured on after each epoch."""
    traits = trainee.Traits.of(subject.learner)
    rows = Rows(reader, encoding, traits.entries, share=sharing.share_of(handle))
    validation = _validation(subject.spec, encoding, traits, handle)
    even_out(subject.spec, encoding, rows, handle)
    return Ready(reader, encoding, rows, validation)


def learn(subject: Subject, ready: Ready, saved: Saved | None, handle: Handle) -> Course:
    """Have the model of `subject` learn, from where `saved` is on, and return what was measured.

    Where memory is too small for a batch, and smaller ones were asked for, it starts again with those that fit.
    """
    asked, first, size = subject.spec, dict[str, bytes](), saved.course.batch_size if saved else 0
    while True:
        spec = trouble.smaller(asked, size) if size else asked
        try:
            return _learn(subject._replace(spec=spec), ready, saved, handle, first, size)
        except trouble.NoMemory as error:
            if not (asked.smaller_batches and error.fits) or sharing.rank_of(handle).of > 1:
                raise
            saved, size = None, error.fits
            handle.say(f"memory is too small for {spec.batch_size} rows: starts again with batches of {size}")
            if first:
                subject.learner.restore(first)


def _learn(
    subject: Subject, ready: Ready, saved: Saved | None, handle: Handle, first: dict[str, bytes], size: int
) -> Course:
    """Have it learn. Puts into `first` what the learner was before, where that may be needed again."""
    learner, (reader, encoding, rows, validation) = subject.learner, ready
    sharing.check_rows(rows.count, handle)
    group = sharing.joined(subject.framework, learner, handle)
    rate = saved.course.rate if saved else _found_rate(subject, ready, handle)
    if group is not None:
        rate = json.loads(group.share(json.dumps(rate).encode()))
    spec = _with_rate(subject.spec, rate)
    pretrained_work.give(learner, spec, encoding, handle)
    begin(learner, rows, encoding, spec)
    pretrained_work.began(learner, handle)
    if spec.smaller_batches and not first and trainee.Traits.of(learner).incremental:
        first.update(learner.state())
    augmenter = augmenter_of(spec, encoding, reader, learner)
    path = saved.course.path if saved else path_of(learner, rows, spec, handle)
    course = saved.course if saved else Course(window=rows.window, path=path, batch_size=size, rate=rate)
    if group is not None:
        sharing.check_same(group, f"{course.epoch} {course.batch}")
        course.window, course.path = json.loads(group.share(json.dumps([course.window, course.path]).encode()))
    trainee.take_path(learner, course.path)
    callbacks = callbacks_of(spec, learner, saved, handle)
    traits = trainee.Traits.of(learner)
    if traits.rounds is not None:
        whole = rounds.as_epochs(spec, rows, traits.rounds, handle)
        rows = rounds.one_set(
            rows, *(rows.all() if augmenter is None else one_fit.copies(spec, handle, rows, augmenter))
        )
        _restore(learner, saved, course, handle)
        whole = whole.model_copy(update={"batch_size": rows.count})
        Loop(whole, handle, learner, encoding, rows, validation, course, None, callbacks, by_rounds=True).run()
    elif traits.incremental:
        _restore(learner, saved, course, handle)
        Loop(spec, handle, learner, encoding, rows, validation, course, augmenter, callbacks, group).run()
    else:
        one_fit.all_at_once(spec, handle, learner, rows, validation, course, augmenter)
        if callbacks:
            callbacks.call("on_epoch_end", 0, {name: values[-1] for name, values in course.history.items()})
    return course


def _found_rate(subject: Subject, ready: Ready, handle: Handle) -> float | None:
    """Find the learning rate with a copy of the model, where it is to be found."""
    if subject.spec.learning.learning_rate != FIND:
        return None
    copy, spec = subject.fresh(), rate_finder.tested(subject.spec)
    pretrained_work.give(copy, spec, ready.encoding, handle)
    begin(copy, ready.rows, ready.encoding, spec)
    found = rate_finder.find(copy, ready.rows, spec)
    random.seed(spec.seed)  # as if nothing had been found
    np.random.seed(spec.seed)
    return rate_finder.told(found, handle)


def _with_rate(spec: Train, rate: float | None) -> Train:
    if rate is None:
        return spec
    return spec.model_copy(update={"learning": spec.learning.model_copy(update={"learning_rate": rate})})


def labelled(spec: Train, reader: Reader, where: str, handle: Handle) -> Reader:
    """Leave out the rows of a dataset, labelled in part, that have no label yet."""
    lacking = [name for name in several.targets_of(spec, reader.target) if may_lack(reader, name)]
    if not lacking:
        return reader
    found = Labelled(reader, lacking[0])  # only the dataset's own target may lack
    handle.say(f"{reader.rows - found.rows:,} of the {reader.rows:,} rows of {where} have no label, and are left out")
    return found


def given(spec: Train, handle: Handle) -> Subject | None:
    """Load the model that the spec names; None where it names none."""
    if spec.code is None or spec.framework is None:
        return None
    framework = plugins.framework(spec.framework)
    with handle.blobs.open(spec.code) as file:
        packed = file.read()
    return Subject(
        framework,
        spec.code,
        spec.flavour or spec.framework,
        framework.load(packed),
        spec,
        lambda: framework.load(packed),
    )


def picked(spec: Train, reader: Reader, handle: Handle) -> Subject:
    """Make a sensible model for the columns."""
    if spec.pretrained is not None and spec.pretrained.is_folder:
        found = defaults.texts(spec, reader, pretrained_work.folder(spec.pretrained, handle))
    else:
        found = defaults.pick(spec, reader)
    handle.say(f"no model was given: {found.words}")
    framework = plugins.framework(found.framework)
    packed = framework.pack(found.model, found.compiled)
    code = handle.blobs.write([packed.code]).id
    return Subject(
        framework, code, packed.flavour, framework.load(packed.code), found.spec, lambda: framework.load(packed.code)
    )


def encoding_of(subject: Subject, reader: Reader, traits: trainee.Traits) -> Encoding:
    """Look at the rows and fix how they are encoded."""
    spec = subject.spec
    options = encoder.Options(
        category_encoding=spec.category_encoding,
        scale=spec.scale,
        images=traits.layout,
        columns=traits.columns,
        dtype=traits.input_dtype,
        where=spec.data,
        values=amounts.learnt(spec, several.targets_of(spec, reader.target), subject.learner),
        weights=spec.loss_weights,
        inputs=spec.inputs,
    )
    return encoder.fit(reader, spec.features, spec.target, options)


def _validation(spec: Train, encoding: Encoding, traits: trainee.Traits, handle: Handle) -> Rows | None:
    if spec.validation is None:
        return None
    reader = labelled(spec, handle.data(spec.validation), spec.validation, handle)
    if not reader.rows:
        raise Invalid(f"the validation part {spec.validation} has no rows")
    return Rows(reader, encoding, traits.entries, share=sharing.share_of(handle))


def begin(learner: Learner, rows: Rows, encoding: Encoding, spec: Train) -> None:
    """Show a model its first batch. Raises `Invalid` where the model and the rows do not fit."""
    _sampling(spec, rows)
    with closing(rows.batches(spec.batch_size)) as batches:
        x, y = next(batches)
    try:
        trainee.learn_by(learner, _way(spec, encoding, rows))
        learner.begin(x, y, encoding.task, len(encoding.classes), spec.seed)
    except (Invalid, MemoryError) as error:
        if trouble.is_memory(error.__cause__ or error):
            first = partial(_begin_with, learner, x, y, encoding, spec)
            raise trouble.no_memory(error.__cause__ or error, len(x), first) from None
        if isinstance(error, MemoryError):
            raise
        raise type(error)(f"{error.message} ({_words(encoding)})", errors=error.errors) from error


def path_of(learner: Learner, rows: Rows, spec: Train, handle: Handle, times: int = 1) -> str:
    """Return the way in which a model that has begun is computed; `times`: how many like it are to learn, at least."""
    if sharing.rank_of(handle).number:
        return "plain"  # the first process chooses for all
    if not trainee.races(learner):
        return trainee.paths(learner)[0]
    with closing(rows.batches(spec.batch_size)) as batches:
        x, y = next(batches)
    try:
        return fast_path.choose(learner, x, y, times * spec.epochs * -(-rows.count // spec.batch_size), handle)
    except (MemoryError, RuntimeError) as error:
        if not trouble.is_memory(error):
            raise
        return trainee.usual_path(learner)  # the first batch will say how much there is


def _begin_with(learner: Learner, x: Any, y: Any, encoding: Encoding, spec: Train, count: int) -> None:
    learner.begin(x[:count], y[:count], encoding.task, len(encoding.classes), spec.seed)


def _way(spec: Train, encoding: Encoding, rows: Rows) -> Way:
    asked = spec.learning.class_weights
    weights = None if asked is None else balance.weights(asked, encoding, rows.labels)
    pictures = all(feature.op == "image" for feature in encoding.features)
    return Way(spec.learning, weights, mitigating.groups(spec, rows), (0.0, 1.0) if pictures else None)


def callbacks_of(spec: Train, learner: Learner, saved: Saved | None, handle: Handle) -> Callbacks | None:
    """Load what the user has called while the model learns, with what it remembers. Executes the user's code."""
    if spec.callbacks is None:
        return None
    with handle.blobs.open(spec.callbacks) as file:
        given = load(UNPACK)(file.read())
    found = Callbacks(given, learner, {"epochs": spec.epochs, "batch_size": spec.batch_size})
    if saved is not None and saved.callbacks is not None:
        found.restore(saved.callbacks)
    return found


def _sampling(spec: Train, rows: Rows) -> None:
    if spec.learning.balanced_sampling and not rows.held:
        raise Invalid(
            f"balanced_sampling needs all rows in memory, and these take more than {MEMORY >> 30} GiB: use class_weights",
            errors=[FieldError("learning.balanced_sampling", "use class_weights")],
        )
    rows.even(spec.seed if spec.learning.balanced_sampling else None)


def even_out(spec: Train, encoding: Encoding, rows: Rows, handle: Handle) -> None:
    """Add made rows of the rarer classes, where the spec asks for them; they are the same in each attempt."""
    for step in spec.augment or ():
        if isinstance(step, Smote):
            if not rows.held:
                raise Invalid(
                    f"augment: smote needs all rows in memory, and these take more than {MEMORY >> 30} GiB: leave it out, or train on "
                    "a part of them",
                    errors=[FieldError("augment.smote", "fewer rows")],
                )
            before = rows.count
            rows.put(*smote(step, *rows.all(), encoding, spec.seed))
            handle.say(f"smote: {rows.count - before:,} made rows were added to {before:,}")


def augmenter_of(spec: Train, encoding: Encoding, reader: Reader, learner: Learner) -> Augmenter | None:
    """Return what changes the batches of a training; None where nothing does."""
    steps = spec.augment or ()
    if all(isinstance(step, Smote) for step in steps):
        return None
    soft = trainee.takes_shares(learner)
    return Augmenter(steps, encoding, reader.columns, spec.seed, soft=soft)


def _words(encoding: Encoding) -> str:
    names = [feature.column for feature in encoding.features]
    shown = ", ".join(names[:12]) + (f", … {len(names)} in all" if len(names) > 12 else "")
    columns = "columns" if len(names) > 1 else "column"
    if encoding.goals:
        return f"{columns}: {shown}; targets {', '.join(f'{goal.column}: {goal.task}' for goal in encoding.goals)}"
    target = f"target {encoding.target}: {encoding.task}"
    return f"{columns}: {shown}; {target}" + (f" of {len(encoding.classes)} classes" if encoding.classes else "")


def _restore(learner: Learner, saved: Saved | None, course: Course, handle: Handle) -> None:
    if saved is None:
        return
    learner.restore({**saved.learner, **saved.ranks.get(sharing.rank_of(handle).number, {})})
    handle.say(f"goes on from epoch {course.epoch + 1}, batch {course.batch + 1}")


def fitted_of(subject: Subject, ready: Ready, course: Course, handle: Handle) -> Fitted:
    """Keep what was learnt, and say what it is."""
    spec = subject.spec
    curves = events.encoded(course.history, course.times)
    return Fitted(
        framework=subject.framework.name,
        flavour=subject.flavour,
        code=pretrained_work.code_of(subject.learner, subject.code, handle),
        weights=handle.blobs.write([subject.learner.weights()]).id,
        encoding=ready.encoding,
        activation=cast(Any, subject.learner.activation),
        activations=trainee.activations(subject.learner),
        history=course.history,
        epochs=course.epoch,
        data=spec.data,
        dataset=ready.reader.dataset.id,
        parameters=trainee.parameters(subject.learner),
        seed=spec.seed,
        versions=_versions(subject),
        facts={**spec.facts, **({} if course.rate is None else {"learning_rate": course.rate})},
        events=handle.blobs.write([curves]).id,
        seconds=course.seconds,
        base=pretrained_work.base(spec),
        pretrained=pretrained_work.facts(subject.learner, spec, handle),
    )


def _versions(subject: Subject) -> dict[str, str]:
    names = ["lepton-ai-sdk", "numpy", *_LIBRARIES.get(subject.flavour, (subject.flavour,))]
    if subject.framework.name == "keras":
        names.append("keras")
    found = {"python": platform.python_version()}
    for name in dict.fromkeys(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # TensorFlow has two names
            continue
    return found


def predict(spec: Predict, handle: Handle) -> dict[str, Any]:
    """Predict every row; return the blob of an .npy array, float32: probabilities (rows, classes), or values.

    Of several targets it has a field for each.
    """
    predictor = handle.model(spec.run)
    reader = handle.data(spec.data)
    encoding: Encoding = predictor.fitted.encoding
    columns = encoder.column_names(encoding, target=False)
    parts, done = [], 0
    for batch in reader.batches(spec.batch_size, columns=_present(columns, reader, spec.data)):
        parts.append(np.asarray(predictor.scores(batch), dtype=None if encoding.goals else np.float32))
        done += len(parts[-1])
        handle.progress(done, reader.rows, "rows")
    if not parts:
        raise Invalid(f"{spec.data} has no rows to predict")
    found = np.concatenate(parts)
    file = BytesIO()
    np.save(file, found, allow_pickle=False)
    return {
        "predictions": handle.blobs.write([file.getvalue()]).id,
        "rows": len(found),
        "shape": list(found.shape),
        "dtype": str(found.dtype),
        "task": encoding.task,
        "classes": list(encoding.classes),
        **({"targets": [goal.model_dump(mode="json") for goal in encoding.goals]} if encoding.goals else {}),
    }


def _present(columns: tuple[str, ...], reader: Reader, where: str) -> tuple[str, ...]:
    have: Mapping[str, Any] = {column.name: column for column in reader.columns}
    if gone := [name for name in columns if name not in have]:
        raise Invalid(f"{where} has no column {gone[0]!r}, which the model learnt from")
    return columns
