"""What tuning will need, before anything runs: memory, steps, tokens, time and money.

Arithmetic from a model's shape, a recipe, the sequences' lengths and the devices. It is of our
loop: packed forwards of at most ``forward_tokens`` tokens, attention that keeps its weights on CPUs
and none on GPUs, fused AdamW. Memory is what one process holds at the most, in a step of several
forwards; tests compare it with what small runs really took.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hinlap.core.counting import counted
from hinlap.core.errors import InputError
from hinlap.tuning.devices import Device, Devices
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.shape import PACK_SHARE, Shape, adapted_linears, adapter_parameters

# Share of the devices' peak that is assumed where none is given; not measured.
UTILISATION = {"cuda": 0.35, "cpu": 0.5}

RUNTIME_BYTES = {"cuda": 2.0e9, "cpu": 0.6e9}  # CUDA's context and what its allocator wastes; torch

# DeepSpeed's defaults, in numbers of values (zero/config.py of 0.19)
_SUB_GROUP = 1_000_000_000
_LIVE = 1_000_000_000
_ALLGATHER_BUCKET = 500_000_000

# Bytes of a weight in NF4 with double quantisation: Dettmers et al. (2023), "QLoRA", section 3
_NF4_BYTES = (4 + 0.127) / 8

# What the head and its loss hold for each learnt token and word: logits, their log-softmax, and
# the gradient, in float32
_LOGIT_BYTES = 12


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of the sequences that teach, in tokens.

    longest: of one sequence. squares: sum of squared lengths, which attention's work grows with.
    learnt:  share of the tokens that are learnt, (0, 1].
    known:   whether they were counted; otherwise they are expected.
    """

    sequences: int
    tokens: float
    longest: int
    squares: float
    learnt: float = 1.0
    known: bool = True


def counted_lengths(lengths: Sequence[int], *, learnt: float = 1.0) -> Lengths:
    """Of sequences that are here. Raises InputError where there is none."""
    if not lengths:
        raise InputError(
            "no sequence is left to learn from",
            where="--plan",
            hint="raise max_length, or give more rows",
        )
    squares = float(sum(length * length for length in lengths))
    return Lengths(len(lengths), float(sum(lengths)), max(lengths), squares, learnt)


def expected_lengths(sequences: int, mean: float, longest: int, *, learnt: float = 1.0) -> Lengths:
    """Of sequences that are not here; their lengths are taken to vary as much as their mean."""
    if sequences < 1 or not 0 < mean <= longest:
        raise InputError(
            f"{counted(sequences, 'sequence')} of {mean:g} tokens on average and at most {longest}",
            where="--plan",
            hint="there must be one at least, and the mean must lie between 0 and the longest",
        )
    squares = sequences * mean * min(2 * mean, longest)
    return Lengths(sequences, sequences * mean, longest, squares, learnt, known=False)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device at the most.

    weights:     in the precision they are used in.
    gradients:   of what is learnt.
    optimizer:   Adam's two moments, float32.
    master:      float32 weights beside narrower ones (DeepSpeed).
    activations: what a forward keeps for its backward.
    logits:      of the learnt tokens of a forward, with their gradient.
    working:     casts, buffers between devices, gathered layers, the optimizer's own.
    runtime:     the process before a model is there.
    """

    weights: float
    gradients: float
    optimizer: float
    master: float
    activations: float
    logits: float
    working: float
    runtime: float

    @property
    def total(self) -> float:
        return float(sum(getattr(self, part.name) for part in fields(self)))

    @property
    def states(self) -> float:
        """What is there all the time, and what ZeRO shares out."""
        return self.weights + self.gradients + self.optimizer + self.master


@dataclass(frozen=True, slots=True)
class Change:
    """What else could be done. what: a recipe's fields, or other devices. total: bytes then."""

    what: str
    total: float
    fits: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a tuning needs.

    trained:         weights that are learnt, of shape.parameters (and adapters beside them).
    steps:           of the optimizer, all epochs.
    epoch_steps, epoch_tokens: of one epoch.
    tokens:          that all steps read.
    forward_tokens:  of one forward at the most, on one device.
    forwards:        of one step on one device, on average.
    flops:           of all learning: 6 for each weight and token in full tuning, 4 where the base
                     is frozen, and attention; without what is computed again.
    spent_flops:     with recomputation (gradient checkpointing) and evaluations.
    seconds:         at ``utilisation`` of the devices' peak.
    usd:             None where the devices have no price.
    changes:         empty where it fits.
    """

    shape: Shape
    recipe: Recipe
    devices: Devices
    lengths: Lengths
    memory: Memory
    trained: int
    steps: int
    epoch_steps: int
    epoch_tokens: float
    tokens: float
    forward_tokens: int
    forwards: float
    flops: float
    spent_flops: float
    utilisation: float
    seconds: float
    usd: float | None
    changes: tuple[Change, ...] = ()

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.devices.device.memory_bytes


def plan(
    shape: Shape,
    recipe: Recipe,
    devices: Devices,
    lengths: Lengths,
    *,
    utilisation: float | None = None,
    usd_per_hour: float | None = None,
) -> Plan:
    """What tuning ``shape`` by ``recipe`` needs on ``devices``.

    utilisation:  share of the devices' peak; None: UTILISATION of their kind.
    usd_per_hour: of one device; None: its list price.
    """
    utilisation = UTILISATION[devices.device.kind] if utilisation is None else utilisation
    if not 0 < utilisation <= 1:
        raise InputError(
            f"a share of the peak of {utilisation:g}", where="--plan", hint="it is over 0, up to 1"
        )
    epoch_steps = math.ceil(lengths.sequences / recipe.batch_size)
    steps = epoch_steps * recipe.epochs
    flops, spent = _flops(shape, recipe, lengths, steps)
    device = devices.device
    peak = device.flops_bf16 if recipe.precision == "bf16" else device.flops_float32
    seconds = spent / (peak * utilisation * devices.count)
    price = device.usd_per_hour if usd_per_hour is None else usd_per_hour
    memory = memory_of(shape, recipe, devices, lengths)
    tokens = _forward_tokens(recipe, devices, lengths)
    step_tokens = recipe.batch_size * lengths.tokens / lengths.sequences
    return Plan(
        shape=shape,
        recipe=recipe,
        devices=devices,
        lengths=lengths,
        memory=memory,
        trained=_trained(shape, recipe),
        steps=steps,
        epoch_steps=epoch_steps,
        epoch_tokens=lengths.tokens,
        tokens=lengths.tokens * recipe.epochs,
        forward_tokens=tokens,
        forwards=max(1.0, step_tokens / devices.count / tokens),
        flops=flops,
        spent_flops=spent,
        utilisation=utilisation,
        seconds=seconds,
        usd=None if price is None else price * devices.count * seconds / 3600,
        changes=()
        if memory.total <= device.memory_bytes
        else _changes(shape, recipe, devices, lengths),
    )


def _whole(recipe: Recipe) -> bool:
    """Whether all weights are learnt."""
    return recipe.method in ("full", "scratch")


def _trained(shape: Shape, recipe: Recipe) -> int:
    if _whole(recipe):
        return shape.parameters
    return adapter_parameters(shape, recipe.lora.rank, recipe.lora.target)


def _flops(shape: Shape, recipe: Recipe, lengths: Lengths, steps: int) -> tuple[float, float]:
    """(of learning, of learning with recomputation and evaluations)."""
    mean = lengths.tokens / lengths.sequences
    products = 2.0 * shape.products * lengths.tokens
    head = 2.0 * shape.head * lengths.tokens * lengths.learnt
    # causal: each token looks at half its sequence, once for scores and once for their sum
    attention = 2.0 * shape.layers * shape.queries * lengths.squares
    forward = products + head + attention
    if _whole(recipe):
        backward = 2 * forward  # for inputs and for weights
    else:  # a frozen weight needs no gradient; attention has two inputs all the same
        adapters = 6.0 * _trained(shape, recipe) * lengths.tokens
        backward = products + head + 2 * attention + adapters
    learning = (forward + backward) * recipe.epochs
    again = (products + attention) * recipe.epochs if recipe.gradient_checkpointing else 0.0
    looks = 1 + (steps // recipe.evaluate_every if recipe.evaluate_every else recipe.epochs)
    evaluating = forward / lengths.tokens * mean * recipe.held_out_rows * looks
    return learning, learning + again + evaluating


def _forward_tokens(recipe: Recipe, devices: Devices, lengths: Lengths) -> int:
    """Tokens of one forward at the most. A sequence is never cut: one may be over the bound."""
    share = math.ceil(recipe.batch_size / devices.count)
    return max(lengths.longest, min(recipe.forward_tokens, share * lengths.longest))


def memory_of(shape: Shape, recipe: Recipe, devices: Devices, lengths: Lengths) -> Memory:
    """Bytes that one process holds at the most. Source of the sharing: Rajbhandari et al. (2020),
    "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models"; peer:
    deepspeed.runtime.zero's estimate_zero2/3_model_states_mem_needs."""
    trained = _trained(shape, recipe)
    whole = _whole(recipe)
    narrow = 2 if recipe.precision == "bf16" else 4
    sharded = recipe.zero > 0
    world = devices.count
    by_state = world if recipe.zero >= 2 else 1
    by_weight = world if recipe.zero == 3 else 1

    used = narrow if sharded else 4  # what is learnt is float32 without DeepSpeed
    frozen = 0.0 if whole else _frozen_bytes(shape, recipe, narrow, by_weight)
    frozen += _packed_bytes(shape, recipe, devices.device) + _widened_bytes(shape, recipe)
    weights = used * trained / by_weight + frozen
    gradients = used * trained / by_state
    optimizer = 8 * trained / by_state
    master = 4 * trained / by_state if sharded else 0.0

    tokens = _forward_tokens(recipe, devices, lengths)
    activations, attention = _activation_bytes(shape, recipe, tokens), 0.0
    if devices.device.kind == "cpu":
        layers = 1 if recipe.gradient_checkpointing else shape.layers
        attention = attention_bytes(shape, narrow, tokens, lengths.longest)
        activations += layers * attention
    logits = float(_LOGIT_BYTES * shape.vocabulary * math.ceil(tokens * lengths.learnt))

    largest = max((x.inputs * x.outputs for x in shape.linears), default=0)
    during = 0.0
    if whole:
        during += used * largest  # a gradient on its way to be added
    if whole and narrow == 2 and not sharded:
        during += 2.0 * (shape.products + shape.head)  # weights cast for the products
    during += tokens * 2 * narrow * shape.inner  # gradients of activations on their way back
    during += attention  # those of one layer's scores
    after = 0.0
    if sharded:
        bucket = min(reduce_bucket(shape.width), trained)
        during += 2 * narrow * bucket
        if recipe.zero == 3:
            everything = shape.parameters + (0 if whole else trained)
            during += narrow * min(_LIVE, everything)
            after += 4 * min(_SUB_GROUP, trained / world)
        else:
            after += 4 * trained / world + narrow * min(_ALLGATHER_BUCKET, trained)
    elif world > 1:
        during += 4.0 * trained  # DDP's buckets
        after += 4.0 * trained
    lasting = activations + logits + during
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        master=master,
        activations=activations,
        logits=logits,
        working=during + max(0.0, after - lasting),
        runtime=RUNTIME_BYTES[devices.device.kind],
    )


def reduce_bucket(width: int) -> int:
    """Values that DeepSpeed adds up between processes at a time: one square product's weights, as
    Accelerate and transformers choose it."""
    return width * width


def _frozen_bytes(shape: Shape, recipe: Recipe, narrow: int, by_weight: int) -> float:
    if recipe.method != "qlora":
        return float(narrow * shape.parameters) / by_weight
    quantised = shape.products  # bitsandbytes leaves the head and the embeddings alone
    return _NF4_BYTES * quantised + 2.0 * (shape.parameters - quantised)


def _packed_bytes(shape: Shape, recipe: Recipe, device: Device) -> float:
    """Of frozen weights laid out for the products of both ways, on a CPU with room for it that is
    taken to have products of bfloat16, and where this machine has no compiled ones of its own
    (tuning/kernels.py)."""
    import torch

    from hinlap.engines.native import kernels

    native = kernels()
    if native and native.multiplies(torch.bfloat16):
        return 0.0
    narrow_lora = recipe.method == "lora" and recipe.precision == "bf16" and not recipe.zero
    if device.kind != "cpu" or not narrow_lora:
        return 0.0
    if 4 * shape.parameters > PACK_SHARE * device.memory_bytes:
        return 0.0
    packed = [linear for linear in shape.linears if linear.head]
    if not recipe.lora.dropout:
        packed += adapted_linears(shape, recipe.lora.target)
    return 4.0 * sum(linear.weights for linear in packed)


def _widened_bytes(shape: Shape, recipe: Recipe) -> float:
    """Of embeddings in float32 where sums over layers are (tuning/learner.py), beside a bfloat16
    head; told for all models with RMSNorms, some of which have another kind of them."""
    narrow = recipe.method == "lora" and recipe.precision == "bf16" and not recipe.zero
    return float((4 if shape.tied else 2) * shape.head) if narrow and shape.rms_norms else 0.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """What one block keeps for its backward, in bytes a token, by the widths that it grows with:
    the stream, queries, keys, and inside the feed-forward layers."""

    width: float
    queries: float
    keys: float
    inner: float

    def bytes(self, shape: Shape) -> float:
        return (
            self.width * shape.width
            + self.queries * shape.queries
            + self.keys * shape.keys
            + self.inner * shape.inner
        )


# By family and regime, counted from what autograd saves of transformers' own code (a test counts
# again). cast: float32 weights, products in bfloat16. narrow: weights of bfloat16. frozen: LoRA,
# where a norm's own gradient needs nothing, and an input is kept once in the weights' precision.
_KEPT: Mapping[str, Mapping[str, _Kept]] = {
    "gated": {  # llama, mistral, qwen2 ...: RMSNorm, gated feed-forward
        "float32": _Kept(24, 8, 8, 16),
        "float32 frozen": _Kept(16, 8, 8, 16),
        "cast": _Kept(26, 4, 4, 8),
        "narrow": _Kept(16, 4, 4, 8),
        "narrow frozen": _Kept(12, 4, 4, 8),
    },
    "gpt_neox": {  # one product makes queries, keys and values, of which a view keeps all three
        "float32": _Kept(40, 0, 0, 8),
        "float32 frozen": _Kept(40, 0, 0, 8),
        "cast": _Kept(22, 0, 0, 4),
        "narrow": _Kept(20, 0, 0, 4),
        "narrow frozen": _Kept(20, 0, 0, 4),
    },
    "gpt2": {  # gelu is written out: five inner values are kept
        "float32": _Kept(32, 0, 0, 20),
        "float32 frozen": _Kept(32, 0, 0, 20),
        "cast": _Kept(20, 0, 0, 10),
        "narrow": _Kept(16, 0, 0, 10),
        "narrow frozen": _Kept(16, 0, 0, 10),
    },
    "gptj": {
        "float32": _Kept(24, 0, 0, 20),
        "float32 frozen": _Kept(24, 0, 0, 20),
        "cast": _Kept(20, 0, 0, 10),
        "narrow": _Kept(12, 0, 0, 10),
        "narrow frozen": _Kept(12, 0, 0, 10),
    },
}


def _family(shape: Shape) -> str:
    """The row of _KEPT; an architecture that has none counts as GPT-2, which keeps most."""
    if shape.architecture in _KEPT:
        return shape.architecture
    names = {linear.name for linear in shape.linears}
    return "gated" if names & {"gate_proj", "gate_up_proj"} else "gpt2"


def _regime(recipe: Recipe) -> str:
    if not _whole(recipe):
        return "float32 frozen" if recipe.precision == "float32" else "narrow frozen"
    if recipe.precision == "float32":
        return "float32"
    return "narrow" if recipe.zero else "cast"  # DeepSpeed's weights are bfloat16 themselves


def _activation_bytes(shape: Shape, recipe: Recipe, tokens: int) -> float:
    regime = _regime(recipe)
    block = _KEPT[_family(shape)][regime].bytes(shape)
    if not _whole(recipe):  # what lies between the two products of each pair
        pairs = sum(linear.count for linear in shape.linears if not linear.head)
        block += 4.0 * recipe.lora.rank * pairs / shape.layers
    stream = (2 if regime.startswith("narrow") else 4) * shape.width
    blocks = shape.layers * block
    if recipe.gradient_checkpointing:  # each block's input, and one block again
        blocks = shape.layers * stream + block
    return tokens * (blocks + 3 * stream)  # and around the blocks: embedding, norm, head's input


def attention_bytes(shape: Shape, narrow: int, tokens: int, longest: int) -> float:
    """What attention on a CPU keeps in one layer, of sequences that are not tiny at the most: for
    each query of up to 1,024 tokens a weight for each key up to the end of its block of 128
    (tuning/kernels.py; the compiled kernel's blocks are shorter)."""
    length = min(longest, 1024)
    seen = length if length <= 128 else (length + 128) / 2
    return float(narrow * shape.heads * tokens * seen)


def _changes(
    shape: Shape, recipe: Recipe, devices: Devices, lengths: Lengths
) -> tuple[Change, ...]:
    """What would take less memory: each by itself, then all that keep the method, then LoRA, then
    more devices. Stops at the first that fits among the last three."""
    limit = devices.device.memory_bytes

    def tried(what: str, changed: Recipe, on: Devices = devices) -> Change:
        total = memory_of(shape, changed, on, lengths).total
        return Change(what, total, total <= limit)

    less: dict[str, Any] = {}
    if not recipe.gradient_checkpointing:
        less["gradient_checkpointing"] = True
    if recipe.forward_tokens > lengths.longest:
        less["forward_tokens"] = lengths.longest
    if devices.count > 1 and devices.device.kind == "cuda" and recipe.zero < 3:
        less["zero"] = 3
    if recipe.precision == "float32" and recipe.method != "scratch":
        less["precision"] = "bf16"
    now = memory_of(shape, recipe, devices, lengths).total
    changes = [
        tried(_said({field: value}), recipe.model_copy(update={field: value}))
        for field, value in less.items()
    ]
    changes = [change for change in changes if change.total < now]
    if any(change.fits for change in changes):
        return tuple(changes)
    smallest = recipe.model_copy(update=less)
    if len(less) > 1:
        changes.append(tried(_said(less), smallest))
    if not changes or not changes[-1].fits:
        if recipe.method == "full" and not recipe.special_tokens:
            lora = smallest.model_copy(update={"method": "lora"})
            changes.append(tried(_said({"method": "lora", **less}), lora))
        if devices.device.kind == "cuda":
            spread = smallest.model_copy(update={"zero": 3})
            count = devices.count
            while count < 1024:
                count *= 2
                more = tried(
                    f"{_said({**less, 'zero': 3})} on {Devices(devices.device, count)}",
                    spread,
                    Devices(devices.device, count),
                )
                if more.fits:
                    changes.append(more)
                    break
    return tuple(changes)


def _said(update: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{field}: {str(value).lower() if isinstance(value, bool) else value}"
        for field, value in update.items()
    )


def plan_lines(plan: Plan) -> list[str]:
    """The plan as a page for people, a line each."""
    shape, recipe, lengths, memory = plan.shape, plan.recipe, plan.lengths, plan.memory
    device = plan.devices.device
    whole = _whole(recipe)
    how = recipe.method if whole else f"{recipe.method}, rank {recipe.lora.rank}"
    parallel = f"ZeRO-{recipe.zero}" if recipe.zero else ("DDP" if plan.devices.count > 1 else "")
    rows = [
        (
            "Model",
            f"{recipe.model}: {shape.architecture}, {shape.parameters:,} parameters, "
            f"{shape.layers} layers of width {shape.width:,}",
        ),
        (
            "Method",
            ", ".join(
                part
                for part in (
                    how,
                    recipe.precision,
                    parallel,
                    "gradient checkpointing" if recipe.gradient_checkpointing else "",
                )
                if part
            )
            + f"; {plan.trained:,} weights learnt",
        ),
        ("Devices", f"{plan.devices}, {_gb(device.memory_bytes)} each"),
        (
            "Data",
            f"{counted(lengths.sequences, 'sequence')}, "
            f"{lengths.tokens / lengths.sequences:,.0f} tokens on average"
            f"{'' if lengths.known else ' (expected)'}, {lengths.longest:,} at most",
        ),
        (
            "Steps",
            f"{plan.steps:,}: {counted(recipe.epochs, 'epoch')} of {plan.epoch_steps:,}, "
            f"{recipe.batch_size:,} sequences each",
        ),
        (
            "Tokens",
            f"{plan.tokens:,.0f}: {plan.epoch_tokens:,.0f} an epoch; "
            f"{plan.forward_tokens:,} in a forward at most, "
            f"{plan.forwards:,.1f} forwards a step and device",
        ),
    ]
    lines = _aligned(rows)
    lines += ["", "Memory of each device at the most"]
    parts = [(_PARTS[part.name], getattr(memory, part.name)) for part in fields(memory)]
    lines += _amounts([*parts, ("total", memory.total)], device.memory_bytes)
    lines += ["", _verdict(plan)]
    lines += [
        f"  {change.what}: {_gb(change.total)}{', fits' if change.fits else ', still too much'}"
        for change in plan.changes
    ]
    again = "" if plan.spent_flops == plan.flops else f" ({plan.spent_flops:.3g} with all forwards)"
    peak = device.flops_bf16 if recipe.precision == "bf16" else device.flops_float32
    if plan.usd is None:
        cost = "none: the devices have no price here"
    else:
        listed = f"; list price: {device.price}" if device.price else ""
        cost = f"{plan.usd:,.2f} USD{listed}"
    lines += [""]
    lines += _aligned(
        [
            ("Work", f"{plan.flops:.3g} FLOPs{again}"),
            (
                "Time",
                f"{_span(plan.seconds)} at {plan.utilisation:.0%} of {peak / 1e12:,.1f} TFLOP/s "
                f"{recipe.precision} a device (assumed; --plan does not measure)",
            ),
            ("Cost", cost),
        ]
    )
    return lines


_PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "Adam's moments",
    "master": "float32 master weights",
    "activations": "activations",
    "logits": "logits",
    "working": "working space",
    "runtime": "runtime",
}


def _verdict(plan: Plan) -> str:
    total, limit = plan.memory.total, plan.devices.device.memory_bytes
    if plan.fits:
        return f"Fits: {_gb(total)} of {_gb(limit)}."
    remedy = "; what would change it:" if plan.changes else "; no change of the recipe is enough."
    return f"Does not fit: {_gb(total)} of {_gb(limit)}{remedy}"


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows]


def _amounts(rows: Sequence[tuple[str, float]], limit: float) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {_gb(value):>10}  {value / limit:>6.1%}" for name, value in rows]


def _gb(value: float) -> str:
    return f"{value / 1e9:,.2f} GB"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:,.1f} hours"
