"""Embeddings of sentences by a BERT-like encoder: a fast tokeniser, ONNX Runtime, and the pooling that the model's files name.

Texts of all requests that wait are sorted by length and computed together, so that a batch holds little that is no text.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from leptonai.adapters.runtimes.encoder_graph import Encoder
from leptonai.core.errors import FieldError, Invalid, LeptonError, Unavailable, Unsupported
from leptonai.core.runtimes import LoadedText

BATCH_ROWS = 32
BATCH_TOKENS = 4096  # of a batch, with what fills shorter rows up
SLOTS = 64  # requests at once

_POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}


@dataclass
class Waiting:
    """The texts of one request, as token ids, on their way to vectors."""

    rows: Sequence[Sequence[int]]
    vectors: np.ndarray  # (rows, width), float32
    left: int
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class EncoderRuntime:
    """Loads folders as sentence-transformers writes them."""

    name = "encoder"

    def load(self, files: Mapping[str, Path], *, slots: int, context: int, threads: int) -> LoadedText:  # noqa: ARG002
        """Load the encoder; `slots` and `context` are those of chats, and mean nothing here. Raises `Invalid`."""
        from tokenizers import Tokenizer

        config = _json(files, "config.json")
        try:
            tokenizer = Tokenizer.from_str(files["tokenizer.json"].read_text("utf-8"))
        except Exception as error:
            raise Invalid(f"tokenizer.json cannot be read: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        said = {name: _json(files, name) for name in ("pooling.json", "sentence.json", "modules.json") if name in files}
        longest = int(said.get("sentence.json", {}).get("max_seq_length") or config.get("max_position_embeddings", 512))
        session = _session(_graph(files, config), threads)
        return SentenceEncoder(session, tokenizer, _pooling(said), _normalises(said), longest)


class SentenceEncoder:
    """A `LoadedText`: each call of `answer` embeds the texts of one request."""

    slots = SLOTS

    def __init__(self, session: Any, tokenizer: Any, pooling: str, normalise: bool, longest: int):
        self._session = session
        self._inputs = {given.name for given in session.get_inputs()}
        self._tokenizer = tokenizer
        self._pooling = pooling
        self._normalise = normalise
        self._around = tokenizer.encode("").ids  # the tokens that stand before and behind each text
        self._words = tokenizer.get_vocab_size()
        self._waiting: list[Waiting] = []
        self._change = threading.Condition()
        self._closed = False
        self._width = int(session.get_outputs()[0].shape[-1])
        self.facts: dict[str, Any] = {"context": longest, "width": self._width}
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def answer(self, asked: Mapping[str, Any], each: Callable[[Mapping[str, Any], bytes], bool]) -> None:
        """Embed ``texts`` or ``tokens``: `each` gets ``{"rows", "width", "usage"}`` and the vectors, float32 row by row."""
        rows = self._rows(asked)
        waiting = Waiting(rows, np.empty((len(rows), self._width), np.float32), len(rows))
        with self._change:
            if self._closed:
                raise Unavailable("the model is being closed")
            self._waiting.append(waiting)
            self._change.notify()
        waiting.done.wait()
        if waiting.error is not None:
            raise waiting.error
        usage = {"prompt": sum(len(row) for row in rows)}
        each({"rows": len(rows), "width": self._width, "usage": usage}, waiting.vectors.tobytes())

    def close(self) -> None:
        """End the thread that computes; what waits gets an error."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _rows(self, asked: Mapping[str, Any]) -> list[list[int]]:
        if "tokens" in asked:
            half = len(self._around) // 2
            before, behind = self._around[:half], self._around[half:]
            rows = [[*before, *row, *behind] for row in asked["tokens"]]
        else:
            rows = [found.ids for found in self._tokenizer.encode_batch(asked["texts"])]
        most = self.facts["context"]
        for number, row in enumerate(rows):
            if len(row) > most:
                raise Invalid(
                    f"input[{number}] has {len(row)} tokens, and the model's longest text has {most}: cut it in pieces",
                    errors=[FieldError(f"input[{number}]", f"at most {most} tokens")],
                    openai="context_length_exceeded",
                )
            if not all(0 <= token < self._words for token in row):
                raise Invalid(
                    f"input[{number}] has a token that the model does not know: tokens are from 0 to {self._words - 1}",
                    errors=[FieldError(f"input[{number}]", f"from 0 to {self._words - 1}")],
                )
        return rows

    # ------------------------------------------------------------------------------------------- computing

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._closed:
                    self._change.wait()
                taken, self._waiting = self._waiting, []
                closed = self._closed
            if closed:
                for waiting in taken:
                    _end(waiting, Unavailable("the model is being closed"))
                return
            everything = [(waiting, number) for waiting in taken for number in range(len(waiting.rows))]
            everything.sort(key=lambda row: len(row[0].rows[row[1]]))
            for batch in batches([len(waiting.rows[number]) for waiting, number in everything]):
                self._compute(everything[batch])

    def _compute(self, rows: Sequence[tuple[Waiting, int]]) -> None:
        rows = [row for row in rows if row[0].error is None]
        if not rows:
            return
        longest = max(len(waiting.rows[number]) for waiting, number in rows)
        ids, mask = np.zeros((2, len(rows), longest), np.int64)
        for line, (waiting, number) in enumerate(rows):
            tokens = waiting.rows[number]
            ids[line, : len(tokens)] = tokens
            mask[line, : len(tokens)] = 1
        try:
            given = {"ids": ids, "mask": mask, "input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
            hidden = self._session.run(None, {name: given[name] for name in self._inputs})[0]
            vectors = self._pooled(hidden, mask)
        except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises ends these requests, and only these
            for waiting, _ in rows:
                _end(waiting, Unavailable(f"the embeddings cannot be computed: {type(error).__name__}"))
            return
        for (waiting, number), vector in zip(rows, vectors, strict=True):
            waiting.vectors[number] = vector
            waiting.left -= 1
            if not waiting.left:
                waiting.done.set()

    def _pooled(self, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return one vector for each row: the mean of its tokens, or its first."""
        if self._pooling == "first":
            found = hidden[:, 0]
        else:
            weight = mask[:, :, None].astype(np.float32)
            found = (hidden * weight).sum(1) / weight.sum(1)
        if self._normalise:
            found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return np.asarray(found, np.float32)


def batches(lengths: Sequence[int]) -> list[slice]:
    """Cut rows, sorted by length, into batches of few enough rows and tokens."""
    found, start = [], 0
    for end, length in enumerate(lengths):
        rows = end - start + 1
        if end > start and (rows > BATCH_ROWS or rows * length > BATCH_TOKENS):
            found.append(slice(start, end))
            start = end
    return [*found, slice(start, len(lengths))] if lengths else []


def _end(waiting: Waiting, error: LeptonError) -> None:
    waiting.error = error
    waiting.done.set()


def _json(files: Mapping[str, Path], name: str) -> Any:
    try:
        return json.loads(files[name].read_text("utf-8"))
    except KeyError:
        raise Invalid(f"an embedding model needs the file {name}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise Invalid(f"{name} is not JSON: {error}") from error


def _pooling(said: Mapping[str, Any]) -> str:
    modes = [mode for mode, on in said.get("pooling.json", {"pooling_mode_mean_tokens": True}).items() if on is True]
    modes = [mode for mode in modes if mode.startswith("pooling_mode_")]
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise Unsupported(
            f"its pooling is {', '.join(modes)}: the mean of the tokens, or the first one, can be computed"
        )
    return _POOLING[modes[0]]


def _normalises(said: Mapping[str, Any]) -> bool:
    return any(str(module.get("type", "")).endswith(".Normalize") for module in said.get("modules.json", ()))


def _graph(files: Mapping[str, Path], config: Mapping[str, Any]) -> bytes:
    """Return the ONNX graph that came with the model, or one made of its weights."""
    if "encoder.onnx" in files:
        return files["encoder.onnx"].read_bytes()
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        raise Unsupported(
            f"an encoder of the type {config.get('model_type')!r} cannot be made of its weights: bring its model.onnx along"
        )
    if config.get("hidden_act") != "gelu":
        raise Unsupported(
            f"its activation is {config.get('hidden_act')!r}, and gelu can be computed: bring its model.onnx"
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        weights = load(files["model.safetensors"].read_bytes())
        return Encoder(config, weights).build()
    except KeyError as error:
        raise Invalid(f"the encoder's files lack {error}") from error
    except SafetensorError as error:
        raise Invalid(f"model.safetensors cannot be read: {error}") from error


def _session(graph: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Invalid(f"ONNX Runtime cannot load the encoder: {str(error)[:300]}") from error
