"""The contract of `Framework`: PyTorch, scikit-learn, Keras on PyTorch here, on TensorFlow and on JAX in processes of their own."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.back_end import needs
from tests.support.warm import keras_here, libraries

from leptonai.core import plugins, settings
from leptonai.testing.framework import CLASSES, FEATURES, FrameworkContract

ELSEWHERE = settings.variable("KERAS_BACKEND") in ("tensorflow", "jax")  # this is a process of another back end


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    if ELSEWHERE:  # the process of its own needs Keras alone
        keras_here()
    else:
        libraries()


def probabilities_of(estimator: Any, x: np.ndarray) -> np.ndarray:
    return estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)


class TestTorch(FrameworkContract):
    framework = plugins.framework("torch")

    def model(self, task: str) -> tuple[Any, Mapping[str, Any]]:
        from torch import nn

        outputs = CLASSES if task == "classification" else 1
        net = nn.Sequential(
            nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, outputs)
        )
        loss, metrics = ("cross_entropy", ["accuracy", "f1"]) if task == "classification" else ("mse", ["mae", "r2"])
        return net, {"optimizer": "adam", "loss": loss, "metrics": metrics}

    def misfit(self) -> tuple[Any, Mapping[str, Any]]:
        from torch import nn

        return nn.Sequential(nn.Linear(4, CLASSES)), {}

    def answers(self, model: Any, x: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            return model.eval()(torch.from_numpy(x)).numpy()


class TestSklearn(FrameworkContract):
    framework = plugins.framework("sklearn")

    def model(self, task: str) -> tuple[Any, Mapping[str, Any]]:
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if task == "classification":
            return make_pipeline(StandardScaler(), LogisticRegression()), {"metrics": ["accuracy", "f1"]}
        return RandomForestRegressor(5), {}

    def answers(self, model: Any, x: np.ndarray) -> np.ndarray:
        return probabilities_of(model, x)


class TestSklearnTrees(TestSklearn):
    def model(self, task: str) -> tuple[Any, Mapping[str, Any]]:
        from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier

        if task == "classification":
            return RandomForestClassifier(5), {"metrics": ["accuracy"]}
        return HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=5), {}


# Keras asks NumPy for arrays of its tensors in a way that NumPy 2 wants differently; users do not see the warning.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
class TestKeras(FrameworkContract):
    framework = plugins.framework("keras")

    @pytest.fixture(autouse=True)
    def _keras(self) -> None:
        self.keras = keras_here()

    def model(self, task: str) -> tuple[Any, Mapping[str, Any]]:
        layers = self.keras.layers
        last = layers.Dense(CLASSES, activation="softmax") if task == "classification" else layers.Dense(1)
        net = self.keras.Sequential(
            [layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.2), last]
        )
        loss, metrics = (
            ("sparse_categorical_crossentropy", ["accuracy"]) if task == "classification" else ("mse", ["mae"])
        )
        return net, {"optimizer": "adam", "loss": loss, "metrics": metrics}

    def misfit(self) -> tuple[Any, Mapping[str, Any]]:
        layers = self.keras.layers
        net = self.keras.Sequential([self.keras.Input((4,)), layers.Dense(CLASSES, activation="softmax")])
        return net, {"optimizer": "adam", "loss": "sparse_categorical_crossentropy"}

    def answers(self, model: Any, x: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict(x, verbose=0))


@pytest.mark.skipif(ELSEWHERE, reason="this is such a process")
@pytest.mark.parametrize(
    "which",  # that TensorFlow learns, the snippet of the README tells in every run
    [
        pytest.param("TestKeras and classification and (goes_on or weights_make)", id="state and weights"),
        pytest.param("TestKeras", id="all", marks=pytest.mark.slow),
    ],
)
def test_the_contract_holds_for_keras_on_tensorflow(which: str) -> None:
    _holds("tensorflow", which, 280)


@pytest.mark.slow
@pytest.mark.timeout(960)
@pytest.mark.skipif(ELSEWHERE, reason="this is such a process")
def test_the_contract_holds_for_keras_on_jax() -> None:
    """JAX compiles each model anew, which takes ten times as long as the rest: on two busy cores four minutes."""
    needs("jax")
    _holds("jax", "TestKeras", 900)


def _holds(backend: str, which: str, seconds: float) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", which, __file__],
        cwd=Path(__file__).parents[2],
        env=settings.environment(KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1"),
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
