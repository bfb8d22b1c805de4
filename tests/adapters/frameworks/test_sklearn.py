"""scikit-learn: pipelines, the user's own estimators, and weights that are not trusted blindly."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_info

from leptonai.adapters.frameworks import skops_file
from leptonai.core import plugins
from leptonai.core.errors import Denied, Invalid, Unsupported
from leptonai.training.predictor import probabilities

FRAMEWORK = plugins.framework("sklearn")


pytestmark = pytest.mark.usefixtures("warm")


class Clipped(TransformerMixin, BaseEstimator):
    """A transformer of the user's own."""

    def __init__(self, at: float = 1.0):
        self.at = at

    def fit(self, x: Any, y: Any = None) -> "Clipped":
        self.n_features_in_ = x.shape[1]
        return self

    def transform(self, x: Any) -> Any:
        return np.clip(x, -self.at, self.at)


def doubled(x: Any) -> Any:
    return 2 * x


def rows(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype(np.float32)
    return x, np.digitize(x[:, 0], np.linspace(-1, 1, classes + 1)[1:-1]).astype(np.int64)


def learnt(model: Any, classes: int = 3, compiled: dict[str, Any] | None = None) -> tuple[Any, bytes]:
    code = FRAMEWORK.pack(model, compiled or {}).code
    learner = FRAMEWORK.load(code)
    x, y = rows(classes)
    learner.begin(x[:32], y[:32], "classification", classes, 0)
    learner.step(x, y)
    return learner, code


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(), RidgeClassifier(), LinearSVC(), SVC(), GaussianNB(), KNeighborsClassifier(), RandomForestClassifier(5),
        GradientBoostingClassifier(n_estimators=3), LinearDiscriminantAnalysis(), SGDClassifier(), MLPClassifier((4,), max_iter=30),
        StackingClassifier([("a", GaussianNB())], cv=2), make_pipeline(Clipped(0.5), FunctionTransformer(doubled), LogisticRegression()),
        make_pipeline(ColumnTransformer([("s", StandardScaler(), [0, 1])]), LogisticRegression()),
    ],
    ids=lambda model: "-".join(type(step).__name__ for _, step in getattr(model, "steps", [("", model)])),
)  # fmt: skip
def test_classifiers_decide_as_scikit_learn_does_and_travel(model: Any, classes: int) -> None:
    learner, code = learnt(model, classes)
    x, _ = rows(classes)
    raw = learner.predict(x)
    scores = probabilities(raw, learner.activation, classes)
    assert (scores.argmax(1) == learner.model.predict(x)).mean() > 0.98
    assert np.isfinite(scores).all()
    weights = learner.weights()
    assert np.array_equal(FRAMEWORK.load(code, weights).predict(x), raw)
    FRAMEWORK.absorb(model, weights)
    assert np.array_equal(model.predict(x), learner.model.predict(x))


def test_code_of_the_users_own_is_read_back_where_it_is_not_installed(tmp_path: Path) -> None:
    script = (
        "from sklearn.base import BaseEstimator, TransformerMixin\nimport sys, numpy as np\nfrom pathlib import Path\n"
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.linear_model import LogisticRegression\n"
        "from leptonai.core import plugins\n"
        "class Half(TransformerMixin, BaseEstimator):\n"
        "    def fit(self, x, y=None):\n        self.seen_ = len(x)\n        return self\n"
        "    def transform(self, x):\n        return x / 2\n"
        "packed = plugins.framework('sklearn').pack(make_pipeline(Half(), LogisticRegression()), {})\n"
        "Path(sys.argv[1]).write_bytes(packed.code)\n"
    )
    path = tmp_path / "code"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=100)
    run = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom leptonai.core import plugins\n"
        "framework, code = plugins.framework('sklearn'), Path(sys.argv[1]).read_bytes()\n"
        "x, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2\n"
        "learner = framework.load(code)\nlearner.begin(x, y, 'classification', 2, 0)\nlearner.step(x, y)\n"
        "again = framework.load(code, learner.weights())\nassert (again.predict(x) == learner.predict(x)).all()\nprint('same')"
    )
    done = subprocess.run([sys.executable, "-c", run, str(path)], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "same", done.stderr


def test_weights_with_a_strange_type_are_refused() -> None:
    class Strange(BaseEstimator):
        pass

    learner, code = learnt(LogisticRegression())
    data = learner.weights()
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["schema.json"] = parts["schema.json"].replace(
        b'"__module__": "sklearn.linear_model._logistic"', b'"__module__": "os"'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    with pytest.raises(Denied, match=r"os\.LogisticRegression"):
        FRAMEWORK.load(code, out.getvalue())
    with pytest.raises(Invalid, match="not of a GaussianNB"):
        FRAMEWORK.absorb(GaussianNB(), data)
    with pytest.raises(Denied, match="Strange"):
        skops_file.read(skops_file.write(Strange()), [])


def test_the_same_estimator_gives_the_same_bytes() -> None:
    learner, _ = learnt(make_pipeline(StandardScaler(), RandomForestClassifier(3, random_state=1)))
    again, _ = learnt(make_pipeline(StandardScaler(), RandomForestClassifier(3, random_state=1)))
    assert learner.weights() == again.weights() == learner.weights()


def test_a_vocabulary_is_not_written_number_by_number_however_deep_it_is() -> None:
    texts = [f"a word{place} and one{place % 7}" for place in range(60)]
    words = make_pipeline(
        FeatureUnion([("words", TfidfVectorizer(max_features=50)), ("letters", CountVectorizer(analyzer="char"))])
    )
    within = ColumnTransformer([("text", words, 0)])
    model = VotingClassifier([("first", make_pipeline(within, LogisticRegression())), ("second", DummyClassifier())])
    x = np.array(texts, dtype=object)[:, None]
    model.fit(x, np.arange(60) % 2)
    file = skops_file.write(model)
    with zipfile.ZipFile(io.BytesIO(file)) as members:  # a number of NumPy is one of them
        assert len(members.namelist()) < 40
    assert (skops_file.read(file, []).predict(x) == model.predict(x)).all()


def test_what_scikit_learn_cannot_do_is_said() -> None:
    x, y = rows()
    for option in ("optimizer", "loss"):
        with pytest.raises(Unsupported, match=f"brings its own {option}"):
            FRAMEWORK.pack(LogisticRegression(), {option: "adam"})
    with pytest.raises(Invalid, match="cannot predict"):
        FRAMEWORK.pack(StandardScaler(), {})
    for model, task, says in (
        (LinearRegression(), "classification", "use a classifier"),
        (LogisticRegression(), "regression", "use a regressor"),
    ):
        learner = FRAMEWORK.load(FRAMEWORK.pack(model, {}).code)
        with pytest.raises(Invalid, match=says):
            learner.begin(x, y, task, 3, 0)
    learner = FRAMEWORK.load(FRAMEWORK.pack(LogisticRegression(), {}).code)
    with pytest.raises(Invalid, match="NaN"):
        learner.step(np.full_like(x, np.nan), y)


def test_what_it_warns_of_is_kept_to_be_told() -> None:
    learner, _ = learnt(MLPClassifier((4,), max_iter=2))
    assert any("Maximum iterations" in note for note in learner.notes)


class Threads(ClassifierMixin, BaseEstimator):
    """A classifier that notes by how many threads boosted trees would compute."""

    def fit(self, x: Any, y: Any) -> "Threads":
        self.classes_ = np.unique(y)
        self.seen_ = _threads()
        return self

    def predict(self, x: Any) -> Any:
        return np.zeros(len(x), int)


def _threads() -> set[int]:
    return {int(one["num_threads"]) for one in threadpool_info() if one["user_api"] == "openmp"}


def test_few_rows_are_learnt_from_by_one_thread() -> None:
    before = _threads()
    for count, wanted in ((4_999, {1}), (5_000, before)):
        learner = FRAMEWORK.load(FRAMEWORK.pack(Threads(), {}).code)
        learner.begin(np.zeros((count, 2), np.float32), np.arange(count) % 2, "classification", 2, 0)
        learner.step(np.zeros((count, 2), np.float32), np.arange(count) % 2)
        assert learner.model.seen_ == wanted and _threads() == before


class Votes(ClassifierMixin, BaseEstimator):
    """A classifier that only names classes."""

    def fit(self, x: Any, y: Any) -> "Votes":
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: Any) -> Any:
        return self.classes_[(x[:, 0] > 0).astype(int)]


def test_a_classifier_that_only_names_classes() -> None:
    learner, _ = learnt(Votes(), 3)
    x, _ = rows()
    assert learner.predict(x).tolist() == np.eye(3)[(x[:, 0] > 0).astype(int)].tolist()
    assert set(learner.metrics()) == {"accuracy"}
