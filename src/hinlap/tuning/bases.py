"""What training begins from: a model and its tokenizer, by method."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hinlap.core.errors import MissingExtraError, ModelError, UserError
from hinlap.engines.catalogue import CATALOGUE, tuned_parts
from hinlap.engines.prompt_formats import FORMATS, use_format
from hinlap.tuning.recipe import FreshFields, Recipe

_END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Base:
    """name: as the user named it. digest: of its weights and tokenizer."""

    name: str
    folder: Path
    digest: str


def refuse_adapter(model: str) -> None:
    """Raises UserError where ``model`` is an adapter beside its base: training would begin from
    the base alone."""
    parts = tuned_parts(Path(model).expanduser())
    if parts is not None and parts[1] is not None:
        raise UserError(
            "this is an adapter beside its base; tuning begins from whole weights",
            where=model,
            hint="tune it again with --export merged, and name its folder merged/ as the model",
        )


def tokenizer_for(recipe: Recipe, base: Base) -> Any:
    """The base's tokenizer with the recipe's prompt format and special tokens in it.

    Raises ModelError when it cannot be read, or format is ``own`` and it has no chat template.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "local") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"its tokenizer cannot be read: {error}", where=base.name) from error
    if recipe.format == "own" and not tokenizer.chat_template:
        raise ModelError(
            "its tokenizer has no chat template, and the recipe's format is `own`",
            where=base.name,
            hint="set format to alpaca or dolly, or choose a model with a template",
        )
    if recipe.format in FORMATS:
        use_format(tokenizer, FORMATS[recipe.format])
    if recipe.special_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": list(recipe.special_tokens)})
    if tokenizer.eos_token_id is None:
        raise ModelError("its tokenizer knows no token that ends a text", where=base.name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def fresh_tokenizer(texts: Sequence[str], fields: FreshFields) -> Any:
    """A byte-level BPE tokenizer trained on ``texts``; its ending token begins texts, too.

    Source: Radford et al. (2019), "Language Models are Unsupervised Multitask Learners", 2.2.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=fields.vocabulary,
            special_tokens=[_END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=_END_OF_TEXT,
        eos_token=_END_OF_TEXT,
        pad_token=_END_OF_TEXT,
        model_max_length=fields.window,
    )


def fresh_config(fields: FreshFields, tokenizer: Any = None) -> dict[str, Any]:
    """A fresh model's configuration, by transformers' names."""
    ids = {}
    if tokenizer is not None:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        ids = {name: getattr(tokenizer, name) for name in names}
    return {
        "model_type": fields.architecture,
        "vocab_size": fields.vocabulary if tokenizer is None else len(tokenizer),
        "hidden_size": fields.width,
        "intermediate_size": fields.inner,
        "num_hidden_layers": fields.layers,
        "num_attention_heads": fields.heads,
        "max_position_embeddings": fields.window,
        "tie_word_embeddings": True,
        **ids,
    }


def fresh_model(tokenizer: Any, fields: FreshFields, seed: int) -> Any:
    """A model of random weights by transformers' own initialisation, in float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    content = fresh_config(fields, tokenizer)
    config = AutoConfig.for_model(content.pop("model_type"), **content)
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def model_for(recipe: Recipe, base: Base, tokenizer: Any) -> Any:
    """The base's model made ready for the recipe's method; the trained weights are float32.

    Raises UserError when the method does not go with the model or the machine.
    """
    from hinlap.engines.weights import load_model
    from hinlap.tuning.lessons import ending_ids

    torch.manual_seed(recipe.seed)  # an adapter's and new tokens' first values
    if recipe.method == "qlora":
        return _adapted(_quantised(base, recipe.gradient_checkpointing), recipe, base)
    narrow = recipe.method == "lora" and recipe.precision == "bf16"
    model = load_model(base.name, base.folder, torch.bfloat16 if narrow else torch.float32)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer))
    ends = sorted(ending_ids(tokenizer))
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    if recipe.gradient_checkpointing:
        # by the name that it has from transformers 5.24 on, or before
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
        model.enable_input_require_grads()
    return _adapted(model, recipe, base) if recipe.method == "lora" else model


def _adapted(model: Any, recipe: Recipe, base: Base) -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "local") from error
    fields = recipe.lora
    config = peft.LoraConfig(
        r=fields.rank,
        lora_alpha=fields.alpha,
        lora_dropout=fields.dropout,
        target_modules=None if fields.target == "attention" else "all-linear",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():  # peft reads an attribute by a name transformers gives up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        try:
            adapted = peft.get_peft_model(model, config)
        except ValueError as error:
            raise UserError(
                f"PEFT cannot add LoRA matrices to {base.name}: {error}",
                where="tuning",
                hint="set target (lora.target in a recipe) to all-linear",
            ) from error
    known = CATALOGUE.get(base.name)  # for who loads it elsewhere: no folder of this machine
    config.base_model_name_or_path = known.hub_id if known else base.name
    return adapted


def _quantised(base: Base, checkpointing: bool) -> Any:
    """Dettmers et al. (2023), "QLoRA": weights in 4-bit NF4 with double quantisation."""
    if not torch.cuda.is_available():
        raise UserError(
            "QLoRA needs an NVIDIA GPU: its 4-bit products are written for CUDA",
            where="method: qlora",
            hint="use method lora with precision bf16 here",
        )
    try:
        import bitsandbytes  # noqa: F401
        import peft
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    except ImportError as error:
        raise MissingExtraError(error.name or "bitsandbytes", "qlora") from error
    model = AutoModelForCausalLM.from_pretrained(
        base.folder,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        use_safetensors=True,
        trust_remote_code=False,
    )
    return peft.prepare_model_for_kbit_training(
        model,
        use_gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
