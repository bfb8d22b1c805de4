"""All settings in one table, and the only place that reads the environment.

Precedence: argument > environment > project file ``leptonai.toml`` (this folder or one above) > user file
``~/.leptonai/config.toml`` > default.
"""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from leptonai.core.errors import FieldError, Invalid


class Setting(NamedTuple):
    """One setting: its name in files and arguments, its environment variable, its default, and what it does."""

    name: str
    variable: str
    default: str | None
    help: str


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("host", "LEPTONAI_HOST", None, "URL of the server; without it a server on this machine is found or started"),
        Setting("api_key", "LEPTONAI_API_KEY", None, "API key for that server"),
        Setting("home", "LEPTONAI_HOME", "~/.leptonai", "folder of the server on this machine: records, blobs, keys, logs"),
        Setting("database_url", "LEPTONAI_DATABASE_URL", None, "where records are kept; default: SQLite in the home folder"),
        Setting("store_url", "LEPTONAI_STORE_URL", None, "where blobs are kept (folder, s3://bucket/prefix); default: in the home folder"),
        Setting("key_lock", "LEPTONAI_KEY_LOCK", None, "what the server's key file is locked with: 'passphrase:FILE', a plug-in's name such as 'mykms:KEY', or 'none'; default: as it is"),
        Setting("passphrase", "LEPTONAI_PASSPHRASE", None, "passphrase of the key file, where no file holds it"),
        Setting("workers", "LEPTONAI_WORKERS", "2", "how many Runs an agent works on at once"),
        Setting("executor", "LEPTONAI_EXECUTOR", "local", "where an agent has Runs of several processes work: 'local', or a Ray cluster: 'ray:auto', 'ray:HOST:PORT', 'ray:local'"),
        Setting("lease_seconds", "LEPTONAI_LEASE_SECONDS", "30", "how long a Run stays with an agent that is not heard of"),
        Setting("planes", "LEPTONAI_PLANES", str(min(8, len(os.sched_getaffinity(0)))), "how many serving processes answer on the one port of a Site; each holds all models"),
        Setting("grpc_port", "LEPTONAI_GRPC_PORT", "0", "port on which the Services of a Site answer gRPC beside HTTP; 0: none"),
        Setting("access_log", "LEPTONAI_ACCESS_LOG", "errors", "which requests to Services are logged, one JSON line each, in logs/access-N.jsonl: 'off', 'errors', 'on', or a share such as 0.01 beside the errors"),
        Setting("metrics_key", "LEPTONAI_METRICS_KEY", "no", "whether a plane's /metrics needs a key with the scope metrics:read: 'yes' or 'no'"),
        Setting("address_connections", "LEPTONAI_ADDRESS_CONNECTIONS", "4096", "how many connections one address may have to the serving processes; 0 for any number"),
        Setting("address_rate", "LEPTONAI_ADDRESS_RATE", "0", "how many inference requests a second one address may send, beyond which it is told 429; 0 for any number"),
        Setting("model_memory", "LEPTONAI_MODEL_MEMORY", "50%", "how much memory the models of a Site's services may take, in MiB or as a share of the machine's such as '50%'; what was used least recently leaves first"),
        Setting("data_cache", "LEPTONAI_DATA_CACHE", "10240", "how much disk, in MiB, encrypted shards of a store that is not on this machine may take in the folder cache of the home folder; what was used least recently leaves first; 0: none are kept"),
        Setting("models_resident", "LEPTONAI_MODELS_RESIDENT", "0", "how many models of a Site's services may be in memory at once; 0: as many as model_memory has room for"),
        Setting("idle_seconds", "LEPTONAI_IDLE_SECONDS", "0", "after how long without a request the model of a service leaves memory, until the next one comes; 0: never; a service may have its own"),
        Setting("warm", "LEPTONAI_WARM", "auto", "flavours whose libraries are loaded ahead: 'auto', 'none', or such as 'torch,data'"),
        Setting("providers", "LEPTONAI_PROVIDERS", "CPUExecutionProvider", "where ONNX Runtime computes, best first: such as 'TensorrtExecutionProvider,CUDAExecutionProvider'"),
        Setting("precision", "LEPTONAI_PRECISION", "fp32", "what models may be computed in: 'fp32', or 'auto': rounder where the answers stay the same"),
        Setting("race_seconds", "LEPTONAI_RACE_SECONDS", "1", "how long runtimes race for a new model, in the background; 0: the plain one computes"),
        Setting("origins", "LEPTONAI_ORIGINS", None, "origins of web pages that may call Services, such as 'https://ward.example', with commas between; default: none"),
        Setting("chats", "LEPTONAI_CHATS", "8", "how many chats a model of text goes on with at once; four times as many wait"),
        Setting("text_silence", "LEPTONAI_TEXT_SILENCE", "120", "seconds without a token of any chat that is being answered, after which the process of a model of text is replaced; 0: never"),
        Setting("context", "LEPTONAI_CONTEXT", "2048", "tokens that one chat may have, prompt and answer, where the model can; each takes memory"),
    )
}  # fmt: skip


def project_file(start: Path | None = None) -> Path | None:
    """Return the nearest ``leptonai.toml``, from `start` (default: the current folder) upwards."""
    here = (start or Path.cwd()).resolve()
    return next(
        (folder / "leptonai.toml" for folder in (here, *here.parents) if (folder / "leptonai.toml").is_file()), None
    )


def user_file() -> Path:
    """Return where ``lepton login`` keeps host and key."""
    return Path("~/.leptonai/config.toml").expanduser()


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not a TOML file: {error}", errors=[FieldError(str(path), str(error))]) from error
    for name in data:
        if name not in SETTINGS:
            raise Invalid(f"{path}: there is no setting {name!r}; known are {', '.join(SETTINGS)}")
    return data


def get(name: str, given: object = None) -> str | None:
    """Return a setting; `given` is the argument, which comes first. Raises `Invalid` on a file that cannot be read."""
    setting = SETTINGS[name]
    if given is not None:
        return str(given)
    if value := os.environ.get(setting.variable):
        return value
    for path in (project_file(), user_file()):
        if path is not None and path.is_file():
            value = _read(path).get(name)
            if value is not None:
                return str(value)
    return setting.default


def number(name: str, given: object = None) -> float:
    """Return a setting that is a number. Raises `Invalid`."""
    text = get(name, given)
    try:
        return float(text or "")
    except ValueError:
        raise Invalid(f"setting {name} ({SETTINGS[name].variable}) is {text!r}; it must be a number") from None


def home(given: object = None) -> Path:
    """Return the home folder, absolute; it may not exist."""
    return Path(get("home", given) or "~/.leptonai").expanduser().absolute()


# From 1.29 on ONNX Runtime reports to its maker as soon as it is imported, Ray when a cluster starts.
_SILENT = {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def environment(**extra: str) -> dict[str, str]:
    """Return a copy of the environment for a child process, with `extra` on top. Libraries there send nothing home."""
    return {**_SILENT, **os.environ, **extra}


def silence_libraries() -> None:
    """Forbid libraries to send telemetry from this process; to be called before they are imported."""
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)
    # OpenVINO reports each import of it and knows no variable against that, but does without the module that reports.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def variable(name: str) -> str | None:
    """Return a variable that is not ours but is honoured, such as NO_COLOR or KERAS_BACKEND."""
    return os.environ.get(name)
