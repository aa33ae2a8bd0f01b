"""How a model is built, counted from its configuration alone: no weights are read or made.

The model is put together on torch's meta device, where tensors have shapes but no values, so that
counts are exact for every architecture that transformers knows.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import MissingExtraError, ModelError
from hinlap.engines.catalogue import CATALOGUE
from hinlap.engines.places import cache_folder

PACK_SHARE = 1 / 8
"""Of a machine's memory, what packed copies of frozen weights may take."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Layers with one product: ``count`` of them are called ``name``, with ``inputs`` × ``outputs``
    weights each. head: it makes the logits."""

    name: str
    inputs: int
    outputs: int
    count: int
    head: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.count


@dataclass(frozen=True, slots=True)
class Shape:
    """A causal language model in numbers.

    parameters:      all, those that two layers share counted once.
    layers, width:   transformer blocks; length of the residual stream.
    inner:           width inside the feed-forward layers.
    queries, keys:   widths of a token's queries, and of its keys (equal to its values').
    vocabulary:      rows of the head.
    window:          tokens that it can read; 0 where the configuration does not say.
    layer:           parameters of the largest block.
    rms_norms:       whether its norms are RMSNorms.
    tied:            whether the head's weights are the embeddings.
    linears:         every layer with a product, the head too.
    """

    architecture: str
    parameters: int
    layers: int
    width: int
    inner: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    window: int
    layer: int
    rms_norms: bool
    tied: bool
    linears: tuple[Linear, ...]

    @property
    def products(self) -> int:
        """Weights of the products that every token goes through (all experts of a mixture)."""
        return sum(linear.weights for linear in self.linears if not linear.head)

    @property
    def head(self) -> int:
        """Weights of the product that makes the logits."""
        return sum(linear.weights for linear in self.linears if linear.head)


def _pythia(layers: int, width: int, heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "gpt_neox",
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "use_parallel_residual": True,
        "torch_dtype": "float16",
    }


_SMOLLM2_135M = {
    "model_type": "llama",
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}

# What the config.json beside the weights on huggingface.co says (EleutherAI/pythia-*, databricks/
# dolly-v2-*, HuggingFaceTB/SmolLM2-135M*), as remembered: where a plan must be sure, name a folder
# with the config.json. dolly-v2's vocabulary has fewer rows than that of the Pythia it began from.
PUBLISHED: dict[str, dict[str, Any]] = {
    "EleutherAI/pythia-160m": _pythia(12, 768, 12, 50304),
    "EleutherAI/pythia-410m": _pythia(24, 1024, 16, 50304),
    "EleutherAI/pythia-1b": _pythia(16, 2048, 8, 50304),
    "EleutherAI/pythia-1.4b": _pythia(24, 2048, 16, 50304),
    "EleutherAI/pythia-2.8b": _pythia(32, 2560, 32, 50304),
    "EleutherAI/pythia-6.9b": _pythia(32, 4096, 32, 50432),
    "EleutherAI/pythia-12b": _pythia(36, 5120, 40, 50688),
    "databricks/dolly-v2-3b": _pythia(32, 2560, 32, 50280),
    "databricks/dolly-v2-7b": _pythia(32, 4096, 32, 50280),
    "databricks/dolly-v2-12b": _pythia(36, 5120, 40, 50280),
    "HuggingFaceTB/SmolLM2-135M": _SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2_135M,
}


def configuration(model: str) -> dict[str, Any]:
    """The configuration of a model that need not be here: a folder's or the cache's config.json,
    else the published one.

    model: a catalogue name, a Hugging Face id, or a folder. Raises ModelError where none is known;
    nothing is fetched.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _read(folder / "config.json")
    hub_id = CATALOGUE[model].hub_id if model in CATALOGUE else model
    ours = cache_folder() / "models" / model / "config.json"
    if model in CATALOGUE and ours.is_file():
        return _read(ours)
    if hub_id in PUBLISHED:
        return dict(PUBLISHED[hub_id])
    cached = _cached(hub_id)
    if cached is not None:
        return _read(cached)
    raise ModelError(
        f"the configuration of {model!r} is not here",
        where="model",
        hint=f"`hinlap models pull {model}` fetches it, a folder with config.json works too; "
        f"known without: {', '.join(PUBLISHED)}",
    )


def _cached(hub_id: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot be read: {error}",
            where=str(path),
            hint="point to a folder that transformers' save_pretrained wrote",
        ) from error
    if not isinstance(content, dict):
        raise ModelError("not a model's configuration: expected an object", where=str(path))
    return content


def shape_of(config: Mapping[str, Any], name: str = "") -> Shape:
    """The shape of the model that ``config`` (a config.json's content) describes.

    name: of the model, for messages. Raises ModelError where transformers cannot build it.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.pytorch_utils import Conv1D

        from hinlap.engines.fused import norm_epsilon
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "local") from error
    where = name or "config.json"
    fields = {
        key: value
        for key, value in config.items()
        if key not in ("model_type", "architectures", "auto_map", "quantization_config")
    }
    try:
        built = AutoConfig.for_model(str(config.get("model_type", "")), **fields)
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")  # of values that no one will read
            model = AutoModelForCausalLM.from_config(built, trust_remote_code=False)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"transformers cannot build it: {str(error).splitlines()[0]}",
            where=where,
            hint="it must be a causal language model with a model_type that transformers knows",
        ) from error
    text = built.get_text_config()
    heads = int(text.num_attention_heads)
    width = int(text.hidden_size)
    head_width = int(getattr(text, "head_dim", None) or width // heads)
    groups = int(getattr(text, "num_key_value_heads", None) or heads)
    output = model.get_output_embeddings()
    counts: dict[tuple[str, int, int, bool], int] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            inputs, outputs = module.in_features, module.out_features
        elif isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
        else:
            continue
        key = (path.rpartition(".")[2], int(inputs), int(outputs), module is output)
        counts[key] = counts.get(key, 0) + 1
    layers = int(text.num_hidden_layers)
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == layers
    ]
    return Shape(
        architecture=str(built.model_type),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=layers,
        width=width,
        inner=_inner(text, width),
        heads=heads,
        queries=heads * head_width,
        keys=groups * head_width,
        vocabulary=int(text.vocab_size),
        window=int(getattr(text, "max_position_embeddings", 0) or 0),
        layer=max(
            (sum(p.numel() for p in block.parameters()) for stack in stacks for block in stack),
            default=0,
        ),
        rms_norms=any(norm_epsilon(module) is not None for module in model.modules()),
        tied=output is not None and output.weight is model.get_input_embeddings().weight,
        linears=tuple(
            Linear(last, inputs, outputs, count, head)
            for (last, inputs, outputs, head), count in counts.items()
        ),
    )


def _inner(config: Any, width: int) -> int:
    for field in ("intermediate_size", "n_inner", "ffn_dim"):
        value = getattr(config, field, None)
        if value:
            return int(value)
    return 4 * width


def adapter_parameters(shape: Shape, rank: int, target: str) -> int:
    """Weights of LoRA's pairs: rank × (inputs + outputs) for each layer that gets one.

    target: ``all-linear`` (all but the head) or ``attention`` (PEFT's default for the
    architecture; all of them where PEFT has none).
    """
    chosen = adapted_linears(shape, target)
    return sum(rank * (linear.inputs + linear.outputs) * linear.count for linear in chosen)


def adapted_linears(shape: Shape, target: str) -> list[Linear]:
    """The layers that get a pair of LoRA."""
    chosen = None
    if target == "attention":
        try:
            from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        except ImportError as error:
            raise MissingExtraError("peft", "local") from error
        chosen = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(shape.architecture)
    return [
        linear
        for linear in shape.linears
        if not linear.head and (chosen is None or linear.name in chosen)
    ]
