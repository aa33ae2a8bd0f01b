"""A causal model's weights in memory, run on flat sequences of many requests' tokens.

Loading, low-rank adapters beside it, products packed for small batches, and the check that earns
an architecture the shared path.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hinlap.core.errors import EngineError, MissingExtraError, ModelError
from hinlap.engines import tree_attention
from hinlap.engines.blocks import Block, blocks
from hinlap.engines.fused import fuse
from hinlap.engines.native import Kernels, kernels
from hinlap.engines.packing import multiply_natively, pack, packing_pays
from hinlap.engines.tree_attention import (
    Keep,
    KeysValues,
    Layout,
    NotShareableError,
    Own,
    Rule,
    Stored,
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_PACK_SHARE = 0.25  # of the free memory may go into packed copies
_ONEDNN_ROWS = 64  # from here on float32 products may be quicker by oneDNN


@dataclass(frozen=True, eq=False, slots=True)
class Adapter:
    """Low-rank pairs by module name: x @ down.T @ up.T is added to the module's output.

    down: (r, in); up: (out, r), its scale multiplied in.
    """

    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]


class Weights:
    """The model, its device and precision.

    shared: whether requests may share a forward (see `_check_sharing`); if not, why.
    """

    def __init__(
        self, name: str, folder: Path, dtype: str = "float32", *, merge: Path | None = None
    ) -> None:
        self.name = name
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_model(name, folder, DTYPES[dtype])
        if merge is not None:
            model = _merged(model, name, merge)
        self.model = model.to(self.device).eval()
        self._ranges: list[tuple[slice, Adapter]] = []
        self._hooked: set[str] = set()
        self._packed = False
        self._shapes: list[tuple[int, int, int]] = []
        self._rules: dict[int, Rule] = {}
        self._blocks: list[Block] = []
        self.why_not_shared = self._check_sharing()

    @property
    def shared(self) -> bool:
        return not self.why_not_shared

    @functools.cached_property
    def _config(self) -> Any:
        return self.model.config.get_text_config()

    @functools.cached_property
    def layers(self) -> int:
        return int(self._config.num_hidden_layers)

    @property
    def vocabulary(self) -> int:
        """Entries of the output head."""
        return int(self._config.vocab_size)

    def key_value_shapes(self) -> list[tuple[int, int, int]]:
        """(KV heads, width of a key, width of a value) of each layer."""
        return self._shapes

    @property
    def block_dtype(self) -> torch.dtype:
        """Of the keys and values of a running batch: float32 on CPUs without our kernels, where
        attention of single tokens to bfloat16 ones takes three times as long."""
        dtype: torch.dtype = self.model.dtype
        if self.device == "cuda":
            return dtype
        found = kernels()
        theirs = found is not None and all(found.takes_heads(k, v) for _, k, v in self._shapes)
        return dtype if found is not None and theirs and found.takes(dtype) else torch.float32

    def zeros(self, *shape: int) -> torch.Tensor:
        """For keys or values of a running batch."""
        with telling_out_of_memory(self.name):
            return torch.zeros(shape, dtype=self.block_dtype, device=self.device)

    def forward(
        self,
        ids: Sequence[int] | torch.Tensor,
        layout: Layout,
        read: torch.Tensor,
        ranges: Sequence[tuple[slice, Adapter]] = (),
    ) -> torch.Tensor:
        """(M, V) logits at the M positions ``read`` of the N tokens ``ids`` of one forward.

        ranges: which tokens belong to which adapter; the others to none. Raises OutOfMemoryError
        when memory runs out. Whether logits are numbers is the caller's to look at.
        """
        tokens = torch.as_tensor(ids, dtype=torch.long, device=self.device)[None]
        self._ranges = list(ranges)
        layout.adapted = bool(ranges)
        try:
            with (
                telling_out_of_memory(self.name),
                torch.inference_mode(),
                layout,
                _products(tokens.shape[1], self.device),
            ):
                logits: torch.Tensor = self.model(
                    input_ids=tokens,
                    position_ids=layout.positions[None],
                    use_cache=False,
                    logits_to_keep=read,
                ).logits[0]
        finally:
            self._ranges = []
        return logits

    def adapter(self, folder: Path) -> Adapter | None:
        """The adapter in a PEFT folder, hooked into the model; None where it is more than plain
        LoRA (its weights would have to be merged). Raises ModelError when it does not fit."""
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        plain = (
            config.get("peft_type") == "LORA"
            and not config.get("use_dora")
            and config.get("bias", "none") == "none"
            and not config.get("modules_to_save")
            and not config.get("rank_pattern")
            and not config.get("alpha_pattern")
            and not config.get("target_parameters")
            and not config.get("alora_invocation_tokens")
            # other beginnings (PiSSA, OLoRA, LoftQ) change the base weights, too
            and config.get("init_lora_weights", True) in (True, False, "gaussian", "orthogonal")
        )
        if not plain:
            return None
        from safetensors.torch import load_file
        from transformers.pytorch_utils import Conv1D

        rank = config["r"]
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        downs: dict[str, torch.Tensor] = {}
        ups: dict[str, torch.Tensor] = {}
        for key, tensor in load_file(folder / "adapter_model.safetensors").items():
            module, _, part = key.removeprefix("base_model.model.").rpartition(".lora_")
            if part not in ("A.weight", "B.weight"):
                return None
            (downs if part == "A.weight" else ups)[module] = tensor
        like = next(self.model.parameters())
        modules = dict(self.model.named_modules())
        for name, down in downs.items():
            if name not in modules or name not in ups:
                raise _of_another_model(folder, self.name, f"there is no layer {name}")
            if not isinstance(modules[name], torch.nn.Linear | Conv1D):
                return None
            if modules[name] is self.model.get_output_embeddings():
                return None  # it runs on the positions that are read only, not on all tokens
            shape = (ups[name].shape[0], down.shape[1])
            if shape != _shape(modules[name]):
                raise _of_another_model(folder, self.name, f"its layer {name} has another size")
        pairs = {
            name: (down.to(like), (ups[name] * scale).to(like)) for name, down in downs.items()
        }
        for name in pairs.keys() - self._hooked:
            modules[name].register_forward_hook(functools.partial(self._add_adapters, name))
            self._hooked.add(name)
        return Adapter(pairs)

    def _add_adapters(self, name: str, module: Any, inputs: Any, output: torch.Tensor) -> None:
        for span, adapter in self._ranges:
            pair = adapter.pairs.get(name)
            if pair is not None:
                down, up = pair
                # (1, N, D), or (N, D) where a model flattens its tokens
                output[..., span, :] += (inputs[0][..., span, :] @ down.T) @ up.T

    def pack_for_decoding(self) -> None:
        """Makes products of few rows quicker, once: by kernels of our own, else by packed copies of
        the weights where that pays and there is room."""
        if self._packed:
            return
        self._packed = True
        import psutil

        found = kernels() if self.device == "cpu" else None
        if found is not None and found.takes(self.model.dtype):
            multiply_natively(self.model, found)
            self._blocks = self._take_blocks(found)
        elif packing_pays(self.model, _PACK_SHARE * psutil.virtual_memory().available):
            pack(self.model)

    def _check_sharing(self) -> str:
        """Empty when a shared, packed forward gives a plain forward's log-probabilities; else why
        it does not. Three short sequences of a common beginning are enough to see whether the
        architecture keeps to the positions and the parts it is given."""
        if not getattr(self.model, "_supports_attention_backend", False):
            return "transformers does not route its attention through the common interface"
        if any(_moves_with_length(module) for module in self.model.modules()):
            return "its rotary embedding depends on the longest text in a forward"
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self._config.vocab_size, (14,), generator=generator).tolist()
        shared, first, second = ids[:6], ids[6:10], ids[10:]
        plain = []
        with torch.inference_mode():
            for tail in (first, second):
                whole = torch.tensor([shared + tail], device=self.device)
                plain.append(self.model(input_ids=whole, use_cache=False).logits[0, 6:])
        before = self.model.config._attn_implementation
        own = {module for module in self.model.modules() if "forward" in vars(module)}
        tree_attention.register()
        try:
            self.model.set_attn_implementation(tree_attention.NAME)
            fuse(self.model)
            kv = KeysValues(0, 6)
            places = functools.partial(torch.arange, device=self.device)
            top = Layout(places(6), own=[Own(slice(0, 6))], keep=[Keep(slice(0, 6), kv)])
            self.forward(shared, top, places(1))
            below = Layout(
                torch.cat([places(6, 10), places(6, 10)]),
                own=[Own(slice(0, 4)), Own(slice(4, 8))],
                stored=[Stored(slice(0, 8), kv)],
            )
            # fewer positions than tokens: an architecture that gives all would be seen
            together = self.forward(first + second, below, places(1, 8))
            gap, near = _apart(together, torch.cat(plain)[1:])
            if len(kv.keys) != self.layers:
                why = "not all its layers are attention layers"
            elif not near:
                why = f"its log-probabilities move by {gap:.2g} when requests share a forward"
            else:
                self._shapes = [
                    (k.shape[0], k.shape[2], v.shape[2])
                    for k, v in zip(kv.keys, kv.values, strict=True)
                ]
                self._rules = below.rules
                return ""
        except (NotShareableError, TypeError, ValueError, AttributeError, IndexError) as error:
            why = f"its attention cannot be computed in parts: {error or type(error).__name__}"
        self.model.set_attn_implementation(before)
        for module in self.model.modules():
            if module not in own:
                vars(module).pop("forward", None)
        return why

    def _take_blocks(self, found: Kernels) -> list[Block]:
        """Lets layers of the shape go by one call, if that gives the numbers of all the kernels one
        by one, to the last bit, at positions from the first to the last."""
        layers = blocks(self.model, found, self._rules)
        if not layers:
            return []
        last = getattr(self._config, "max_position_embeddings", None) or 4096
        places = np.unique(np.geomspace(1, last, 16).astype(int)) - 1
        ids = np.random.default_rng(0).integers(self._config.vocab_size, size=len(places)).tolist()

        def logits() -> torch.Tensor:
            layout = Layout(torch.from_numpy(places), own=[Own(slice(0, len(places)))])
            return self.forward(ids, layout, torch.arange(len(places)))

        whole = logits()
        for block in layers:
            block.module.forward = block.forward
        same = False
        try:
            same = torch.equal(whole, logits())
        except (RuntimeError, TypeError, ValueError, AttributeError):
            pass  # a layer that is not what it seems
        finally:
            if not same:
                for block in layers:
                    del block.module.forward
        return layers if same else []


def _apart(one: torch.Tensor, other: torch.Tensor) -> tuple[float, bool]:
    """By how much log-probabilities of two forwards' logits differ, and whether that is rounding.
    bfloat16 alone moves single ones of all tokens by half a nat."""
    gaps = (one.float().log_softmax(-1) - other.float().log_softmax(-1)).abs()
    if one.dtype == torch.float32:
        gap = float(gaps.max())
        return gap, gap < 1e-3
    gap = float(gaps.mean())
    return gap, gap < 0.1


def _moves_with_length(module: Any) -> bool:
    """Whether a rotary embedding takes other frequencies for longer texts (transformers' types
    "dynamic" and "longrope"), so that a text's numbers would depend on its company."""
    kinds = getattr(module, "rope_type", None)
    kinds = kinds.values() if isinstance(kinds, dict) else [kinds]
    return any("dynamic" in kind or kind == "longrope" for kind in kinds if kind)


class OutOfMemoryError(EngineError):
    """Memory ran out in a forward: a smaller one may still do."""

    def __init__(self, name: str) -> None:
        super().__init__(
            "memory ran out while the model ran",
            where=name,
            hint="close other programs or choose a smaller model (`hinlap models`); what was "
            "finished is kept: run the same command again",
        )


@contextlib.contextmanager
def telling_out_of_memory(name: str) -> Iterator[None]:
    """torch's ways of saying that memory ran out, as OutOfMemoryError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemoryError(name) from error


def _is_out_of_memory(error: BaseException) -> bool:
    """CUDA says so by type, CPUs by the allocator's words in a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )


def load_model(name: str, folder: Path, dtype: torch.dtype) -> Any:
    """transformers' own model from safetensors. Raises ModelError when it is not whole."""
    _keep_freed_memory()
    try:
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "local") from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the model cannot be loaded: {error}",
            where=name,
            hint="it needs safetensors weights and an architecture transformers knows; "
            "remote code stays off",
        ) from error
    if loading["missing_keys"]:  # transformers would fill them with random numbers
        raise ModelError(
            f"its files lack weights: {', '.join(sorted(loading['missing_keys'])[:3])}",
            where=name,
            hint="fetch or copy the model again",
        )
    return model


def _merged(model: Any, name: str, adapter: Path) -> Any:
    """The model with a PEFT adapter of any kind merged into its weights."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "local") from error
    with warnings.catch_warnings():  # peft reads an attribute by a name given up since
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        try:
            return PeftModel.from_pretrained(model, adapter).merge_and_unload()
        except (ValueError, RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise _of_another_model(adapter, name, reason) from error


def _of_another_model(adapter: Path, base: str, why: str) -> ModelError:
    return ModelError(
        f"the adapter is of another model: {why}",
        where=str(adapter),
        hint=f"use it with its own base model, not {base}",
    )


def _shape(module: Any) -> tuple[int, ...]:
    """(out, in) of a layer; transformers' Conv1D keeps its weight the other way round."""
    shape: tuple[int, ...] = tuple(module.weight.shape)
    return shape if isinstance(module, torch.nn.Linear) else shape[::-1]


@contextlib.contextmanager
def _products(rows: int, device: str) -> Iterator[None]:
    """Many-row float32 products through oneDNN where that is quicker and as exact here."""
    if rows <= _ONEDNN_ROWS or device != "cpu" or not onednn_products_are_better():
        yield
        return
    with float32_products("medium"):
        yield


@functools.cache
def onednn_products_are_better() -> bool:
    """Whether torch's "medium" float32 precision is at least a tenth quicker here, and exact.

    On CPUs it hands float32 products to oneDNN: some processors gain twofold, some nothing. Timed
    once, in a twentieth of a second: a busy machine may answer otherwise the next time.
    """
    a, b = _factors()
    times = []
    for precision in ("highest", "medium"):
        with float32_products(precision):
            runs = []
            for _ in range(5):
                began = time.perf_counter()
                torch.nn.functional.linear(a, b)
                runs.append(time.perf_counter() - began)
            times.append(min(runs))
    return times[1] < 0.9 * times[0] and onednn_products_are_exact()


@functools.cache
def onednn_products_are_exact() -> bool:
    """Whether float32 products by oneDNN are as exact as torch's own: processors with AMX may round
    to bfloat16. The same answer each time on one machine."""
    a, b = _factors()
    a = a[:64]
    exact = a.double() @ b.double().T
    worst = []
    for precision in ("highest", "medium"):
        with float32_products(precision):
            worst.append(float((torch.nn.functional.linear(a, b) - exact).abs().max()))
    return worst[1] < 4 * worst[0]


def _factors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(rows, 576, generator=generator) for rows in (512, 1536))
    return a, b


@contextlib.contextmanager
def float32_products(name: str) -> Iterator[None]:
    """torch's precision of float32 products: "highest", or "medium" (oneDNN on CPUs)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def _keep_freed_memory() -> None:
    """Tells glibc to keep freed memory instead of giving it back at once.

    torch frees and asks for the same megabytes in every layer; giving them back made nine times
    the page faults, and a tuning step a fifth slower. Without glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    m_mxfast, m_trim_threshold, m_top_pad, m_mmap_threshold = 1, -1, -2, -3  # malloc.h
    mallopt(m_mxfast, 0)  # small pieces kept apart are gone through at each large one freed
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_top_pad, 256 * 2**20)
    mallopt(m_mmap_threshold, 32 * 2**20)
