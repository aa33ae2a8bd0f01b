"""A model folder as one GGUF file that llama.cpp loads; `gguf` is the way back.

What llama.cpp would compute or split otherwise than transformers is refused by name, not guessed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hinlap.core.errors import HinlapError, InputError, MissingExtraError, ModelError, StorageError
from hinlap.core.progress import Progress
from hinlap.engines.gguf_tokenizer import describe_tokenizer

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

    Array = np.ndarray[Any, np.dtype[Any]]

Dtype = Literal["f16", "f32", "bf16", "q8_0"]

_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


def write_gguf(source: Path, target: Path, progress: Progress, *, dtype: Dtype = "f16") -> None:
    """Writes the model folder ``source`` (as save_pretrained leaves it) as the file ``target``.

    dtype: of matrices; vectors and positions stay in float32, and a row that blocks of q8_0 do not
        fill is f16. float32 holds every value exactly.
    All or nothing: written beside the target and renamed when whole; one tensor is in memory at a
    time. llama.cpp does not normalise text: where the tokenizer does (NFC), give it text in NFC.
    A model with a sliding window is given that window as its context length: within it both
    compute the same.

    Raises InputError where ``target`` exists or cannot be written, ModelError for a folder that is
    not a model of a known architecture and tokenizer or has pickled weights only, StorageError when
    the disk fails, MissingExtraError without the extra `local`.
    Peer: llama.cpp's convert_hf_to_gguf.py.
    """
    if os.path.lexists(target):
        raise InputError(
            "already exists", where=str(target), hint="name another file, or remove this one"
        )
    architecture = _architecture(source)
    files = _weight_files(source)
    try:
        import gguf
        import torch
        from huggingface_hub.errors import StrictDataclassError
        from safetensors import SafetensorError, safe_open
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError(error.name or "gguf", "local") from error
    logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ModelError(f"the model cannot be read: {error}", where=str(source)) from error
    writer = gguf.GGUFWriter(None, architecture.name)
    # no general.name: llama.cpp treats tokens otherwise when it holds words like "phi-3"
    writer.add_type("model")
    writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[dtype]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    with ExitStack() as opened:
        try:
            stored = {
                key: file
                for path in files
                for file in [opened.enter_context(safe_open(path, framework="pt"))]
                for key in file.keys()  # noqa: SIM118 (not a mapping)
            }
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"its weights cannot be read: {error}",
                where=str(source),
                hint="fetch or copy the model again",
            ) from error
        try:
            extra = architecture.describe(config, writer)
            describe_tokenizer(tokenizer, config, source, writer)
            plan = _plan(model, config, architecture, stored, dtype)
        except ModelError as error:
            raise ModelError(error.what, where=str(source), hint=error.hint) from error
        if _context_length(config) < _positions(config):
            progress.say(
                f"the context length is written as {_context_length(config):,}, the model's "
                "sliding window: llama.cpp has no windows for this architecture"
            )
        with _beside(target) as path:
            for name, array in extra.items():
                writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes)
            for tensor in plan:
                writer.add_tensor_info(
                    tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, tensor.kind
                )
            writer.write_header_to_file(path)
            try:
                writer.write_kv_data_to_file()
                writer.write_ti_data_to_file()
                progress.start(f"writing {target.name}", len(plan))
                for array in extra.values():
                    writer.write_tensor_data(array)
                for tensor in plan:
                    writer.write_tensor_data(tensor.read(source))
                    progress.advance()
                progress.finish()
                writer.flush()
                for sink in writer.fout or []:
                    os.fsync(sink.fileno())
            finally:
                writer.close()


# --- the folder ---------------------------------------------------------------------------------


def _architecture(source: Path) -> _Architecture:
    path = source / "config.json"
    if not path.is_file():
        adapter = (source / "adapter_config.json").is_file()
        raise ModelError(
            "an adapter, not a whole model" if adapter else "not a model: no config.json",
            where=str(source),
            hint="merge it into its base model first"
            if adapter
            else "point to a folder that transformers' save_pretrained wrote",
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        named = (config.get("architectures") or ["none"])[0]
        quantised = config.get("quantization_config")
    except (OSError, ValueError, AttributeError, TypeError, LookupError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path)) from error
    if quantised:
        raise ModelError(
            "its weights are quantised already",
            where=str(source),
            hint="export the model it was made from",
        )
    if named not in ARCHITECTURES:
        raise ModelError(
            f"the architecture {named} is not known here",
            where=str(path),
            hint=f"known: {', '.join(ARCHITECTURES)}; llama.cpp's convert_hf_to_gguf.py knows more",
        )
    return ARCHITECTURES[named]


def _weight_files(source: Path) -> list[Path]:
    """The safetensors files: one, or the shards its index names."""
    index = source / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
            files = [source / Path(name).name for name in names]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"cannot be read: {error}", where=str(index)) from error
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise ModelError(
                f"a part of the weights is missing: {missing[0]}",
                where=str(source),
                hint="fetch or copy the model again",
            )
        return files
    if (source / "model.safetensors").is_file():
        return [source / "model.safetensors"]
    pickled = sorted(f.name for s in ("*.bin", "*.pt", "*.pth") for f in source.glob(s))
    if pickled:
        raise ModelError(
            f"only pickled weights here ({pickled[0]}), which can run code and are never loaded",
            where=str(source),
            hint="convert them to safetensors where you trust their source",
        )
    raise ModelError(
        "not a model: no model.safetensors",
        where=str(source),
        hint="point to a folder that transformers' save_pretrained wrote",
    )


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A path to write to; it takes the target's place when the block ends well."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _writing_error(target, error) from error


def _writing_error(target: Path, error: OSError) -> HinlapError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR,
                       errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG):  # fmt: skip
        return InputError(
            f"cannot be written here ({error.strerror})",
            where=str(target),
            hint="name a file in a folder you may write to",
        )
    return StorageError(  # numpy's short writes come without a number
        f"could not be written ({error.strerror or error})",
        where=str(target),
        hint="check the space on the disk and run it again; nothing was left behind",
    )


# --- weights ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor of the file: where it comes from and how it is laid out there.

    shape: in the file; bytes: in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    bytes: int
    key: str
    stored: Any
    arrange: Callable[[Array], Array] | None

    def read(self, source: Path) -> Array:
        """Its values as they are written. Raises ModelError for what is not a finite number."""
        import gguf

        values: Array = self.stored.get_tensor(self.key).float().numpy()
        if not np.isfinite(values).all():
            raise ModelError(
                f"the weights {self.key} hold values that are not numbers",
                where=str(source),
                hint="the training went wrong: take an earlier checkpoint",
            )
        if self.kind == gguf.GGMLQuantizationType.F16 and np.abs(values).max(initial=0) >= 65520:
            raise ModelError(
                f"the weights {self.key} hold values too large for f16",
                where=str(source),
                hint="write bf16 or f32",
            )
        if self.arrange is not None:
            values = self.arrange(values)
        return gguf.quants.quantize(np.ascontiguousarray(values), self.kind)


def _plan(
    model: Any, config: Any, architecture: _Architecture, stored: dict[str, Any], dtype: Dtype
) -> list[_Tensor]:
    """Every tensor of ``model`` (it may have no values: the meta device), in the file's order.

    stored: the open safetensors file that holds each key.
    """
    import gguf

    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH[architecture.name.upper()], config.num_hidden_layers
    )
    matrices = gguf.GGMLQuantizationType[dtype.upper()]
    plan = []
    for key, value in model.state_dict().items():
        head = key in ("lm_head.weight", architecture.head)  # one in memory, the other on disk
        origin = architecture.head if head else key
        if head and config.tie_word_embeddings:
            if not architecture.writes_tied_head:
                continue
            origin = architecture.embeddings
        if origin not in stored:  # models saved without their head have no prefix
            origin = origin.removeprefix(f"{model.base_model_prefix}.")
        if origin not in stored:
            raise ModelError(f"its files lack weights: {key}", hint="fetch or copy the model again")
        found = tuple(stored[origin].get_slice(origin).get_shape())
        if found != tuple(value.shape):
            raise ModelError(
                f"the weights {key} have the shape {found}, not {tuple(value.shape)}",
                hint="config.json and the weights are not of one model",
            )
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ModelError(f"llama.cpp has no place for the weights {key}")
        arrange = architecture.arrange(key, config)
        shape = found[::-1] if arrange is np.transpose else found
        kind = matrices
        if len(shape) == 1 or name == "position_embd.weight":
            kind = gguf.GGMLQuantizationType.F32
        elif shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = gguf.GGMLQuantizationType.F16
        size = math.prod(gguf.quant_shape_to_byte_shape(shape, kind))
        plan.append(_Tensor(name, shape, kind, size, origin, stored[origin], arrange))
    return plan


def _interleaved(heads: int) -> Callable[[Array], Array]:
    """Rows of queries or keys, (heads * width, ...): transformers turns a head's first half
    against its second, llama.cpp each value against its neighbour."""

    def arrange(values: Array) -> Array:
        halves = values.reshape(heads, 2, -1, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)

    return arrange


def _by_kind(heads: int) -> Callable[[Array], Array]:
    """Rows of a fused projection, (heads * 3 * width, ...): each head's query, key and value
    become all queries, all keys, all values."""

    def arrange(values: Array) -> Array:
        each = values.reshape(heads, 3, -1, *values.shape[1:])
        return each.swapaxes(0, 1).reshape(values.shape)

    return arrange


# --- architectures ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Architecture:
    """How a model class of transformers is told to llama.cpp.

    name:       llama.cpp's.
    describe:   writes the hyperparameters; gives tensors that no weight of the model is.
    arrange:    what to do to a weight by its key; None: as it is.
    embeddings, head: their keys on disk. A tied head is left out, but where llama.cpp asks for it.
    """

    name: str
    describe: Callable[[Any, GGUFWriter], dict[str, Array]]
    arrange: Callable[[str, Any], Callable[[Array], Array] | None]
    embeddings: str
    head: str
    writes_tied_head: bool = False


def _describe_llama(config: Any, writer: GGUFWriter) -> dict[str, Array]:
    extra = _describe_qwen2(config, writer, kinds=("default", "linear", "yarn", "llama3"))
    writer.add_vocab_size(config.vocab_size)
    return extra


def _describe_qwen2(
    config: Any, writer: GGUFWriter, kinds: tuple[str, ...] = ("default", "linear", "yarn")
) -> dict[str, Array]:
    _one_of(config, "hidden_act", "silu")
    width = _head_width(config)
    _describe_shape(config, writer, config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if config.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise ModelError("it turns a part of each head only, which llama.cpp does not know here")
    return _describe_rope(config, writer, width, kinds)


def _describe_gpt_neox(config: Any, writer: GGUFWriter) -> dict[str, Array]:
    # llama.cpp has GELU by its tanh form only, which differs by up to 0.0005 from the exact one
    _one_of(config, "hidden_act", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
    _one_of(config, "attention_bias", True)
    _describe_shape(config, writer, config.intermediate_size)
    writer.add_parallel_residual(config.use_parallel_residual)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    share = config.rope_parameters.get("partial_rotary_factor", 1.0)
    turned = int(_head_width(config) * share)
    return _describe_rope(config, writer, turned, ("default", "linear"))


def _describe_gpt2(config: Any, writer: GGUFWriter) -> dict[str, Array]:
    _one_of(config, "activation_function", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu")
    _one_of(config, "scale_attn_weights", True)
    _one_of(config, "scale_attn_by_inverse_layer_idx", False)
    _one_of(config, "add_cross_attention", False)
    _describe_shape(config, writer, config.n_inner or 4 * config.hidden_size)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    return {}


def _describe_shape(config: Any, writer: GGUFWriter, inner: int) -> None:
    writer.add_context_length(_context_length(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(config.num_attention_heads)


def _describe_rope(
    config: Any, writer: GGUFWriter, turned: int, kinds: tuple[str, ...]
) -> dict[str, Array]:
    """Rotary positions: ``turned`` values of each head, scaled in one of the ``kinds``."""
    import gguf

    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    if kind not in kinds:
        raise ModelError(
            f"its positions are scaled by {kind!r}, which cannot be written for it",
            hint=f"what can: {', '.join(kinds)}",
        )
    writer.add_rope_dimension_count(turned)
    writer.add_rope_freq_base(rope["rope_theta"])
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        for name in ("attention_factor", "mscale", "mscale_all_dim"):
            if rope.get(name) is not None:
                raise ModelError(f"its YaRN sets {name}, which cannot be written")
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(
            rope.get("original_max_position_embeddings") or config.max_position_embeddings
        )
        writer.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast") or 32.0)
        writer.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow") or 1.0)
    elif kind == "llama3":
        return {"rope_freqs.weight": _llama3_factors(rope, turned)}
    return {}


def _llama3_factors(rope: dict[str, Any], turned: int) -> Array:
    """(turned / 2,) what each frequency is divided by.

    Peer: transformers' modeling_rope_utils, "llama3".
    """
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, turned, 2, dtype=np.float64) / turned)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 1: as it is; 0: divided by the factor
    factors: Array = (1.0 / ((1.0 - kept) / factor + kept)).astype(np.float32)
    return factors


def _one_of(config: Any, field: str, *known: object) -> None:
    if (value := getattr(config, field)) not in known:
        raise ModelError(
            f"its {field} is {value!r}, which llama.cpp does not compute here",
            hint=f"what it does: {', '.join(map(str, known))}",
        )


def _head_width(config: Any) -> int:
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)


def _positions(config: Any) -> int:
    return int(config.max_position_embeddings)


def _window(config: Any) -> int | None:
    """Tokens that a sliding window holds, of any layer; None: every token sees all before it."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    return getattr(config, "sliding_window", None)


def _context_length(config: Any) -> int:
    return min(_positions(config), _window(config) or _positions(config))


def _arrange_llama(key: str, config: Any) -> Callable[[Array], Array] | None:
    if ".q_proj." in key:
        return _interleaved(config.num_attention_heads)
    if ".k_proj." in key:
        return _interleaved(config.num_key_value_heads)
    return None


def _arrange_gpt_neox(key: str, config: Any) -> Callable[[Array], Array] | None:
    return _by_kind(config.num_attention_heads) if ".query_key_value." in key else None


def _arrange_gpt2(key: str, config: Any) -> Callable[[Array], Array] | None:
    """Its linear layers are stored as (in, out)."""
    matrices = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    return np.transpose if key.endswith(matrices) else None


_HEAD = ("model.embed_tokens.weight", "lm_head.weight")
ARCHITECTURES = {
    "LlamaForCausalLM": _Architecture("llama", _describe_llama, _arrange_llama, *_HEAD),
    "MistralForCausalLM": _Architecture("llama", _describe_llama, _arrange_llama, *_HEAD),
    "Qwen2ForCausalLM": _Architecture("qwen2", _describe_qwen2, lambda *_: None, *_HEAD),
    "GPTNeoXForCausalLM": _Architecture(
        "gptneox",
        _describe_gpt_neox,
        _arrange_gpt_neox,
        "gpt_neox.embed_in.weight",
        "embed_out.weight",
        writes_tied_head=True,
    ),
    "GPT2LMHeadModel": _Architecture(
        "gpt2", _describe_gpt2, _arrange_gpt2, "transformer.wte.weight", "lm_head.weight"
    ),
}
