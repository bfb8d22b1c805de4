"""From a candidate to a model: an estimator, or a network, with how it is packed and what its training is asked with."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.training import defaults
from leptonai.training.auto.families import BASELINE
from leptonai.training.spec import Encoding, Train

MOST_NAMES = 100  # categories that have a column each, or are grouped; those of a column with more are encoded by what the target is for them
_BATCH = 64  # pictures that a network learns from at once
_STAND_INS = {"ratings": "Ratings", "series": "Naive"}


class Made(NamedTuple):
    """A model, and the train spec that it learns by."""

    framework: str
    model: Any
    compiled: dict[str, Any]
    spec: Train


def made(candidate: Mapping[str, Any], kind: str, encoding: Encoding, spec: Train, columns: Any) -> Made:
    """Make the model of a candidate. `encoding`: how the rows come to it; `columns`: those of the dataset."""
    family, settings = str(candidate["family"]), dict(candidate["settings"])
    if kind == "image" and family == "network":
        found = defaults.network(spec, columns, encoding)
        return Made(found.framework, found.model, found.compiled, _lessons(settings, spec, encoding.task))
    plain = spec.model_copy(update={"scale": False, "category_encoding": "index", "epochs": 1})
    if family == "lightgbm":
        framework: Any = plugins.framework("lightgbm")
        named = _split_by(settings, encoding)
        more = {
            "random_state": spec.seed,
            "verbose": -1,
            **settings,
            **({"categorical_feature": named} if named else {}),
        }
        return Made("lightgbm", framework.estimator(encoding.task, more), {}, plain)
    maker = "naive" if "made" in settings and family == BASELINE else family  # of a series: as it was a season ago
    model = estimator(maker, settings, encoding, spec.seed)
    if kind == "text" and family == BASELINE:
        model = text_baseline(model)
    return Made("sklearn", model, {}, plain)


def _lessons(settings: Mapping[str, Any], spec: Train, task: str) -> Train:
    """Return how a network learns: as the candidate says, but for what the user, or the dataset, has said already."""
    asked, more = spec.model_dump(), {"epochs": settings["epochs"], "batch_size": _BATCH}
    own = {name: asked["learning"][name] for name in spec.learning.asked}
    more["learning"] = {**settings["learning"], **own}
    if task == "regression":  # a value has no classes to be unsure of
        more["learning"].pop("label_smoothing", None)
    more["augment"] = asked["augment"] or settings.get("augment", [])
    return Train.model_validate(asked | more)


def estimator(family: str, settings: Mapping[str, Any], encoding: Encoding, seed: int) -> Any:
    """Make an estimator of scikit-learn for rows that are encoded plainly: numbers as they are, categories as their places."""
    classes = encoding.task == "classification"
    return _MAKERS[family](dict(settings), encoding, classes, seed)


def blend(members: Mapping[str, tuple[Any, float]], task: str) -> Any:
    """Make an estimator that says the weighted mean of what its members say: name -> (estimator, weight)."""
    from sklearn.ensemble import VotingClassifier, VotingRegressor

    parts = [(name, model) for name, (model, _) in members.items()]
    weights = [weight for _, weight in members.values()]
    if task == "classification":
        return VotingClassifier(parts, voting="soft", weights=weights)
    return VotingRegressor(parts, weights=weights)


def _baseline(*given: Any) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyClassifier(strategy="prior") if given[2] else DummyRegressor()


def _linear(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    last = LogisticRegression(max_iter=300, **settings) if classes else Ridge(**settings)
    return make_pipeline(prepared(encoding, seed, scaled=True, onehot=True), last)


def _boosting(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline

    onehot = settings.get("categories") == "onehot" and bool(_names(encoding))
    named = _split_by(settings, encoding)
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    trees = kind(random_state=seed, categorical_features=named or None, **settings)
    return make_pipeline(prepared(encoding, seed, scaled=False, onehot=True, dense=True), trees) if onehot else trees


def _split_by(settings: dict[str, Any], encoding: Encoding) -> list[int]:
    """Take from the settings how trees get categories; return the columns that they split by groups of categories.

    split: so, but for those of a column with many · places: all by the order of their places, as numbers · onehot: a column for each.
    """
    if settings.pop("categories", "split") != "split":
        return []
    return [place for place in _names(encoding) if len(encoding.features[place].categories) <= MOST_NAMES]


def _forest(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
    from sklearn.pipeline import make_pipeline

    kind = ExtraTreesClassifier if classes else ExtraTreesRegressor
    trees = kind(random_state=seed, n_jobs=-1, **settings)
    return make_pipeline(prepared(encoding, seed, scaled=False, onehot=False), trees)


def _network(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline

    kind = MLPClassifier if classes else MLPRegressor
    sizes = tuple(settings.pop("hidden_layer_sizes"))
    last = kind(
        hidden_layer_sizes=sizes,
        random_state=seed,
        early_stopping=True,
        n_iter_no_change=6,
        max_iter=100,
        batch_size=128,
        **settings,
    )
    return make_pipeline(prepared(encoding, seed, scaled=True, onehot=True), last)


def _words(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:  # noqa: ARG001 - as the others
    return _of_texts(encoding, settings["C"], ngram_range=(1, 2), min_df=2, max_features=100_000)


def _letters(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:  # noqa: ARG001 - as the others
    return _of_texts(encoding, settings["C"], analyzer="char_wb", ngram_range=(2, 4), min_df=5, max_features=50_000)


def _of_texts(encoding: Encoding, strength: float, **how: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    classes, two = encoding.task == "classification", len(encoding.classes) == 2
    # Of two classes by coordinates, which on rare words is many times as quick.
    last: Any = LogisticRegression(C=strength, max_iter=100, solver="liblinear" if two else "lbfgs")
    if not classes:
        last = Ridge(alpha=1 / strength, solver="sparse_cg")
    return make_pipeline(TfidfVectorizer(sublinear_tf=True, **how), last)


def _bayes(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:  # noqa: ARG001 - as the others
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import ComplementNB
    from sklearn.pipeline import make_pipeline

    if not classes:
        raise Invalid("naive Bayes tells classes apart, and the target is a number")
    return make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), ComplementNB(**settings))


def _ratings(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:  # noqa: ARG001 - as the others
    framework: Any = plugins.framework("sklearn")
    return framework.estimator("Ratings", {**settings, "random_state": seed})


def _series(settings: dict[str, Any], encoding: Encoding, classes: bool, seed: int) -> Any:  # noqa: ARG001 - as the others
    """Make a model of a series; where its time lies, what names it and how far it tells is among its settings: see `series.Line`."""
    framework: Any = plugins.framework("sklearn")
    made = settings.pop("made")
    known = settings.pop("known", ())
    more = {"known": tuple(known), "random_state": seed} if made == "Lagged" else {}
    return framework.estimator(made, {**settings, **more})


def stand_in(kind: str) -> Any:
    """Return an estimator by which columns and target of this kind of problem are encoded, before any is tried."""
    from sklearn.dummy import DummyClassifier

    if kind in _STAND_INS:
        framework: Any = plugins.framework("sklearn")
        return framework.estimator(_STAND_INS[kind], {})
    return text_baseline(DummyClassifier()) if kind == "text" else DummyClassifier()


def text_baseline(model: Any) -> Any:
    """Put something before the baseline that takes texts, which it does not look at."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.pipeline import make_pipeline

    first = HashingVectorizer(n_features=2, token_pattern=r"\A.", lowercase=False)  # noqa: S106  no password
    return make_pipeline(first, model)


_MAKERS = {
    "baseline": _baseline, "linear": _linear, "boosting": _boosting, "forest": _forest, "network": _network,
    "words": _words, "letters": _letters, "bayes": _bayes,
    "biases": _ratings, "factors": _ratings,
    "naive": _series, "smoothing": _series, "lags": _series,
}  # fmt: skip


def _names(encoding: Encoding) -> list[int]:
    return [place for place, feature in enumerate(encoding.features) if feature.op == "index"]


def prepared(encoding: Encoding, seed: int, *, scaled: bool, onehot: bool, dense: bool = False) -> Any:
    """Make what stands before a model that knows neither what is missing nor, with `onehot`, what a category is."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

    if encoding.layout != "table":  # arrays side by side: pixels, say
        return StandardScaler() if scaled else "passthrough"
    named = _names(encoding) if onehot else []
    many = [place for place in named if len(encoding.features[place].categories) > MOST_NAMES]
    few = [place for place in named if place not in many]
    numbers = [place for place in range(len(encoding.features)) if place not in named]
    steps: list[tuple[str, Any, list[int]]] = []
    if numbers:
        # Trees that are given what is missing keep it; a linear model, and trees of other kinds, get the median in its place.
        filled = "passthrough" if dense else SimpleImputer(strategy="median", keep_empty_features=True)
        steps.append(("numbers", make_pipeline(filled, StandardScaler()) if scaled else filled, numbers))
    if few:
        steps.append(("few", OneHotEncoder(handle_unknown="ignore", sparse_output=not dense), few))
    if many:
        steps.append(("many", make_pipeline(TargetEncoder(random_state=seed), StandardScaler()), many))
    if not steps:
        raise Invalid("there is no column to learn from")
    return ColumnTransformer(steps, sparse_threshold=0.0 if dense else 0.3)
