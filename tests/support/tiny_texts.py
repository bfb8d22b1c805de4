"""A transformer of a few thousand numbers in a folder as Hugging Face writes it, and sentences that it can tell apart."""

import json
from functools import cache
from typing import Any

import numpy as np

GOOD, BAD = ("lovely", "great", "soft", "perfect", "pretty"), ("awful", "cheap", "torn", "itchy", "ugly")
THINGS = ("dress", "shirt", "coat", "skirt", "hat", "scarf")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "is", "and", *GOOD, *BAD, *THINGS)
CONFIG: dict[str, Any] = {
    "model_type": "bert", "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0, "architectures": ["BertModel"],
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 32, "tie_word_embeddings": True, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip


def sentences(rows: int) -> dict[str, Any]:
    """Return reviews of clothes, their mood, and how long they are."""
    rng = np.random.default_rng(0)
    good = rng.random(rows) < 0.5
    texts = []
    for kind in good:
        words = GOOD if kind else BAD
        texts.append(f"the {rng.choice(THINGS)} is {rng.choice(words)} and {rng.choice(words)}")
    return {
        "review": np.array(texts, object),
        "length": np.array([float(len(text)) for text in texts]),
        "mood": np.where(good, "good", "bad").astype(object),
    }


@cache
def _files(generates: bool) -> dict[str, bytes]:
    import torch
    import transformers
    from safetensors.torch import save
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = LLAMA if generates else CONFIG
    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(**{n: v for n, v in config.items() if n != "architectures"})
    auto = transformers.AutoModelForCausalLM if generates else transformers.AutoModel
    state = auto.from_config(made).state_dict()
    state.pop("lm_head.weight", None)
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": tokenizer.to_str().encode(),
        "model.safetensors": save({name: value.clone().contiguous() for name, value in state.items()}),
    }


def folder(*, generates: bool = False) -> dict[str, bytes]:
    """Return the files of the folder: an encoder, or a language model."""
    return dict(_files(generates))
