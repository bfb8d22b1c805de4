"""leptonai: a self-hosted AI cloud in one Python package.

Importing it does nothing but define these names; what stands behind each is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leptonai.core.errors import LeptonError as LeptonError
    from leptonai.sdk import augment as augment
    from leptonai.sdk import layers as layers
    from leptonai.sdk.auto import AutoResult as AutoResult
    from leptonai.sdk.auto import auto as auto
    from leptonai.sdk.auto import get_auto as get_auto
    from leptonai.sdk.client import Client as Client
    from leptonai.sdk.client import connect as connect
    from leptonai.sdk.datasets import Dataset as Dataset
    from leptonai.sdk.datasets import create_dataset as create_dataset
    from leptonai.sdk.datasets import get_dataset as get_dataset
    from leptonai.sdk.datasets import list_datasets as list_datasets
    from leptonai.sdk.gates import drop_gate as drop_gate
    from leptonai.sdk.gates import get_gate as get_gate
    from leptonai.sdk.gates import set_gate as set_gate
    from leptonai.sdk.imports import import_model as import_model
    from leptonai.sdk.label_tasks import LabelTask as LabelTask
    from leptonai.sdk.label_tasks import get_label_task as get_label_task
    from leptonai.sdk.label_tasks import list_label_tasks as list_label_tasks
    from leptonai.sdk.models import EarlyStopping as EarlyStopping
    from leptonai.sdk.models import Model as Model
    from leptonai.sdk.predictors import Context as Context
    from leptonai.sdk.predictors import Predictor as Predictor
    from leptonai.sdk.predictors import publish as publish
    from leptonai.sdk.predictors import serve as serve
    from leptonai.sdk.registry import ModelVersion as ModelVersion
    from leptonai.sdk.registry import get_model as get_model
    from leptonai.sdk.registry import list_models as list_models
    from leptonai.sdk.runs import Run as Run
    from leptonai.sdk.runs import get_run as get_run
    from leptonai.sdk.runs import list_runs as list_runs
    from leptonai.sdk.services import Service as Service
    from leptonai.sdk.services import get_service as get_service
    from leptonai.sdk.services import list_services as list_services
    from leptonai.sdk.tuning import get_tuning as get_tuning

__version__ = "0.1.0"

host: str | None = None
"""URL of the server; None: what the settings say, else the server on this machine."""
api_key: str | None = None
"""API key for that server; None: what the settings say. Not needed for the server on this machine."""

_HOMES = {
    "AutoResult": "auto",
    "Client": "client",
    "Context": "predictors",
    "Dataset": "datasets",
    "EarlyStopping": "models",
    "LabelTask": "label_tasks",
    "Model": "models",
    "ModelVersion": "registry",
    "Predictor": "predictors",
    "Run": "runs",
    "Service": "services",
    "auto": "auto",
    "connect": "client",
    "create_dataset": "datasets",
    "drop_gate": "gates",
    "get_auto": "auto",
    "get_dataset": "datasets",
    "get_gate": "gates",
    "get_label_task": "label_tasks",
    "get_model": "registry",
    "get_run": "runs",
    "get_service": "services",
    "get_tuning": "tuning",
    "import_model": "imports",
    "list_datasets": "datasets",
    "list_label_tasks": "label_tasks",
    "list_models": "registry",
    "list_runs": "runs",
    "list_services": "services",
    "publish": "predictors",
    "serve": "predictors",
    "set_gate": "gates",
}

__all__ = [
    "AutoResult",
    "Client",
    "Context",
    "Dataset",
    "EarlyStopping",
    "LabelTask",
    "LeptonError",
    "Model",
    "ModelVersion",
    "Predictor",
    "Run",
    "Service",
    "__version__",
    "api_key",
    "augment",
    "auto",
    "connect",
    "create_dataset",
    "drop_gate",
    "get_auto",
    "get_dataset",
    "get_gate",
    "get_label_task",
    "get_model",
    "get_run",
    "get_service",
    "get_tuning",
    "host",
    "import_model",
    "layers",
    "list_datasets",
    "list_label_tasks",
    "list_models",
    "list_runs",
    "list_services",
    "publish",
    "serve",
    "set_gate",
]


def __getattr__(name: str) -> Any:
    if name in ("augment", "layers"):
        return import_module(f"leptonai.sdk.{name}")
    if name == "LeptonError":
        return import_module("leptonai.core.errors").LeptonError
    if name in _HOMES:
        return getattr(import_module(f"leptonai.sdk.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'leptonai' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
