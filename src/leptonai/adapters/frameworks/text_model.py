"""Models of text: a transformer as Hugging Face describes it, with its tokeniser, as a PyTorch module.

Made of ``config.json`` and ``tokenizer.json``, which carry no code. A module that learns from texts has a method ``tokenize``;
these here have one, and a user's own module may. Weights travel apart: what is pickled is how the module is made.
"""

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from leptonai.core.errors import FieldError, Invalid, MissingExtra

LONGEST = 256  # tokens of a text that are read
_NONE = -1  # a place behind the end of a text


class TextModel(nn.Module):
    """What both kinds share: the description, and the way from texts to numbers."""

    def __init__(self, config: Mapping[str, Any], tokenizer: str, longest: int = LONGEST):
        super().__init__()
        self.config, self.tokenizer, self.longest = dict(config), tokenizer, longest
        self._reads: Any = None

    def made_of(self) -> tuple[Any, ...]:
        """Return what makes such a module again."""
        return (self.config, self.tokenizer, self.longest)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.made_of()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self)(*copy.deepcopy(self.made_of(), memo))
        made.load_state_dict(self.state_dict())
        return made.train(self.training)

    def tokenize(self, texts: Sequence[str]) -> Any:
        """Return the numbers of each text's tokens, int64 (texts, tokens); -1 behind the end of a shorter one."""
        if self._reads is None:
            self._reads = read_tokenizer(self.tokenizer)
            self._reads.no_padding()
            self._reads.enable_truncation(self.longest)
        rows = [found.ids or [0] for found in self._reads.encode_batch(list(texts))]
        ids = np.full((len(rows), max(map(len, rows))), _NONE, np.int64)
        for row, found in zip(ids, rows, strict=True):
            row[: len(found)] = found
        return ids


class TextClassifier(TextModel):
    """An encoder and a linear head, on the mean of the tokens or on the first one."""

    def __init__(
        self, config: Mapping[str, Any], tokenizer: str, outputs: int, first: bool = False, longest: int = LONGEST
    ):
        super().__init__(config, tokenizer, min(longest, int(config.get("max_position_embeddings", longest))))
        self.first = first
        self.encoder = _made("AutoModel", config)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(int(self.encoder.config.hidden_size), outputs)

    def made_of(self) -> tuple[Any, ...]:
        """See `TextModel`."""
        return (self.config, self.tokenizer, self.head.out_features, self.first, self.longest)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return (texts, outputs)."""
        mask = ids >= 0
        hidden = self.encoder(input_ids=ids.clamp(min=0), attention_mask=mask.long()).last_hidden_state
        if self.first:
            found = hidden[:, 0]
        else:
            weight = mask[:, :, None].to(hidden.dtype)
            found = (hidden * weight).sum(1) / weight.sum(1)
        return self.head(self.dropout(found))  # type: ignore[no-any-return]


class TextGenerator(TextModel):
    """A language model: which token follows, at each place of a text."""

    generates = True

    def __init__(self, config: Mapping[str, Any], tokenizer: str, longest: int = LONGEST):
        super().__init__(config, tokenizer, min(longest, int(config.get("max_position_embeddings", longest))))
        self.decoder = _made("AutoModelForCausalLM", config)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return (texts, tokens, words)."""
        found = self.decoder(input_ids=ids.clamp(min=0), attention_mask=(ids >= 0).long(), use_cache=False)
        return found.logits  # type: ignore[no-any-return]


def of_folder(files: Mapping[str, bytes], task: str, outputs: int) -> tuple[TextModel, dict[str, Any]]:
    """Return a module for the files of a folder, and how it learns: AdamW with a rate for weights that know much already."""
    config, tokenizer = read_config(files["config.json"]), files["tokenizer.json"].decode("utf-8", "replace")
    read_tokenizer(tokenizer)
    if task == "generation":
        return TextGenerator(config, tokenizer), {"optimizer": functools.partial(torch.optim.AdamW, lr=2e-4)}
    pooling = json.loads(files["1_Pooling.json"]) if "1_Pooling.json" in files else {}
    first = bool(pooling.get("pooling_mode_cls_token"))
    metrics = ["accuracy"] if task == "classification" else ["mae"]
    learning = {"optimizer": functools.partial(torch.optim.AdamW, lr=1e-4), "metrics": metrics}
    return TextClassifier(config, tokenizer, outputs, first), learning


def read_tokenizer(text: str) -> Any:
    """Read a ``tokenizer.json``. Raises `Invalid`."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:
        raise Invalid(f"pretrained: tokenizer.json cannot be read: {error}") from error


def read_config(data: bytes) -> dict[str, Any]:
    """Read a ``config.json`` without what would name code of its own. Raises `Invalid`."""
    try:
        found = json.loads(data)
        kind = found["model_type"]
    except (ValueError, KeyError, TypeError):
        raise Invalid(
            "pretrained: config.json does not say which model it is of: model_type is missing",
            errors=[FieldError("pretrained", "a config.json with model_type")],
        ) from None
    if not isinstance(kind, str):
        raise Invalid("pretrained: the model_type of config.json is no text")
    return {name: value for name, value in found.items() if name not in ("auto_map", "architectures", "_name_or_path")}


def _made(auto: str, config: Mapping[str, Any]) -> Any:
    """Make a model with weights drawn by chance; only what the library itself has is made."""
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra(
            "a model of a Hugging Face folder needs transformers:  pip install 'lepton-ai-sdk[transformers]'"
        ) from error
    options = {name: value for name, value in config.items() if name not in ("model_type", "transformers_version")}
    more = {"add_pooling_layer": False} if auto == "AutoModel" and config["model_type"] in _POOLERS else {}
    try:
        described = transformers.AutoConfig.for_model(config["model_type"], **options)
        made = getattr(transformers, auto).from_config(described, dtype=torch.float32, **more)
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"pretrained: no model can be made of config.json, of the type {config['model_type']!r}: {' '.join(str(error).split())[:300]}",
            errors=[FieldError("pretrained", "a model_type that transformers knows")],
        ) from error
    return made


_POOLERS = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet")  # they have a layer that is not used here
