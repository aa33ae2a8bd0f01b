"""The configuration that DeepSpeed gets, made from a recipe, with the reason for each value.

Fields are those of DeepSpeed 0.19 (`runtime/config.py`, `runtime/zero/config.py`); an optimizer and
a schedule are not among them, because the loop brings its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError
from hinlap.data.whole_file import write_whole
from hinlap.tuning.plan import reduce_bucket
from hinlap.tuning.recipe import Recipe


@dataclass(frozen=True, slots=True)
class DeepSpeedConfig:
    """content: what DeepSpeed reads. reasons: by dotted name, one for each value in it."""

    content: Mapping[str, Any]
    reasons: Mapping[str, str]


def deepspeed_config(
    recipe: Recipe, world: int, *, width: int, stage: int | None = None
) -> DeepSpeedConfig:
    """For ``world`` processes that tune a model whose stream has ``width`` values.

    stage: of ZeRO, 0, 2 or 3; None: the recipe's. Raises InputError for others, for no process,
    and for QLoRA under ZeRO-3, whose weights cannot be taken apart.
    """
    stage = recipe.zero if stage is None else stage
    if stage not in (0, 2, 3):
        raise InputError(f"ZeRO has no stage {stage} here", where="zero", hint="use 0, 2 or 3")
    if world < 1:
        raise InputError(f"{world} processes", where="--num_processes", hint="at least 1")
    if recipe.method == "qlora" and stage == 3:
        raise InputError(
            "weights of 4 bits cannot be shared out among devices",
            where="zero",
            hint="use zero: 2 with qlora, or method: lora with zero: 3",
        )
    share = math.ceil(recipe.batch_size / world)
    even = recipe.batch_size % world == 0
    bf16 = recipe.precision == "bf16"
    entries: list[tuple[str, Any, str]] = [
        (
            "train_micro_batch_size_per_gpu",
            share,
            f"sequences of a step that a process takes at the most: {recipe.batch_size} dealt to "
            f"{world}",
        ),
        (
            "gradient_accumulation_steps",
            1,
            "the loop says itself which forward of a step is its last (their number follows from "
            "the lengths), and its loss is already divided by the whole step's tokens: DeepSpeed "
            "must not divide again",
        ),
        (
            "train_batch_size",
            share * world,
            "the product of the two above and the processes, which DeepSpeed insists on"
            + (
                "; the recipe's batch_size"
                if even
                else f"; the recipe's {recipe.batch_size} do not divide evenly, the loss does not "
                "depend on it"
            ),
        ),
        (
            "gradient_clipping",
            float(recipe.clip),
            "the recipe's clip" if recipe.clip else "the recipe's clip: 0 is no limit",
        ),
        (
            "bf16.enabled",
            bf16,
            "the recipe's precision: weights and gradients of 2 bytes, with float32 master weights "
            "and moments; the range of float32, so that no loss scaling is needed"
            if bf16
            else "the recipe's precision is float32",
        ),
        ("zero_optimization.stage", stage, _STAGES[stage]),
    ]
    if stage:
        entries += [
            (
                "zero_optimization.overlap_comm",
                True,
                "gradients travel while the backward goes on; costs a second bucket",
            ),
            (
                "zero_optimization.contiguous_gradients",
                True,
                "gradients are copied into one buffer as they come, so that memory does not "
                "fragment",
            ),
            (
                "zero_optimization.reduce_bucket_size",
                reduce_bucket(width),
                f"values added up at a time: width × width = {width} × {width}, about one "
                "product's weights; DeepSpeed's 500,000,000 would hold 1 GB in each of two buffers",
            ),
        ]
    if stage == 2:
        entries.append(
            (
                "zero_optimization.allgather_bucket_size",
                500_000_000,
                "values of updated weights gathered at a time: DeepSpeed's default; at the step's "
                "end activations are gone, and there is room",
            )
        )
    if stage == 3:
        entries += [
            (
                "zero_optimization.stage3_prefetch_bucket_size",
                int(0.9 * width * width),
                "values fetched ahead of their use: 0.9 × width × width, as Accelerate and "
                "transformers choose it; the next product's weights arrive while this one runs",
            ),
            (
                "zero_optimization.stage3_param_persistence_threshold",
                10 * width,
                f"smaller parameters are not shared out: 10 × width; norms and biases (up to 4 × "
                f"{width} values) stay on each device, as fetching them costs more than keeping",
            ),
            (
                "zero_optimization.stage3_max_live_parameters",
                1_000_000_000,
                "weights gathered on a device at a time: DeepSpeed's default, 2 GB in bf16; lower "
                "it where memory is short",
            ),
            (
                "zero_optimization.stage3_max_reuse_distance",
                1_000_000_000,
                "a weight used again within so many others is kept: equal to the bound above, "
                "beyond which nothing can be kept anyway",
            ),
            (
                "zero_optimization.sub_group_size",
                1_000_000_000,
                "weights that the optimizer updates at a time: DeepSpeed's default; their float32 "
                "gradients take 4 GB at the most",
            ),
            (
                "zero_optimization.stage3_gather_16bit_weights_on_model_save",
                True,
                "the model is saved whole, though no device has all of it",
            ),
        ]
    entries += [
        ("steps_per_print", 1_000_000_000, "the loop shows its own progress and metrics"),
        (
            "wall_clock_breakdown",
            False,
            "timers make devices wait for each other at every forward",
        ),
    ]
    content: dict[str, Any] = {}
    for name, value, _ in entries:
        *path, last = name.split(".")
        within = content
        for part in path:
            within = within.setdefault(part, {})
        within[last] = value
    return DeepSpeedConfig(content, {name: reason for name, _, reason in entries})


_STAGES = {
    0: "nothing is shared out: every device holds all (plain data parallelism)",
    2: "gradients and Adam's state are shared out among the devices, weights are not: for a model "
    "whose weights fit on one",
    3: "weights too are shared out among the devices and gathered layer by layer: for a model that "
    "does not fit on one; about half as much again travels between them",
}


def leaves(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in a configuration that is not itself a group."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name, value


def explained(config: DeepSpeedConfig) -> str:
    """A text for people: every value with its reason."""
    return "".join(
        f"{name} = {json.dumps(value)}\n    {config.reasons[name]}\n"
        for name, value in leaves(config.content)
    )


def write_deepspeed_config(config: DeepSpeedConfig, path: Path) -> None:
    """Writes ``path`` (JSON, which DeepSpeed reads) and beside it the same with reasons (.txt)."""
    write_whole(path.with_suffix(".txt"), explained(config).encode())
    write_whole(path, (json.dumps(config.content, indent=2) + "\n").encode())
