"""DeepSpeed's configuration: every value has its reason, and DeepSpeed takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hinlap.core.errors import InputError
from hinlap.tuning.deepspeed_config import (
    deepspeed_config,
    explained,
    leaves,
    write_deepspeed_config,
)
from hinlap.tuning.recipe import Recipe

RECIPE = Recipe(name="r", method="full", batch_size=64, precision="bf16", zero=3)

# DeepSpeed 0.19.8: runtime/constants.py, precision_config.py, zero/config.py (it refuses others)
KNOWN = {
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "train_batch_size",
    "gradient_clipping",
    "bf16.enabled",
    "steps_per_print",
    "wall_clock_breakdown",
    *(
        f"zero_optimization.{name}"
        for name in (
            "stage",
            "overlap_comm",
            "contiguous_gradients",
            "reduce_bucket_size",
            "allgather_bucket_size",
            "stage3_prefetch_bucket_size",
            "stage3_param_persistence_threshold",
            "stage3_max_live_parameters",
            "stage3_max_reuse_distance",
            "sub_group_size",
            "stage3_gather_16bit_weights_on_model_save",
        )
    ),
}


@pytest.mark.parametrize("stage", [0, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_every_value_has_a_reason_and_is_known(stage: int, world: int, precision: str) -> None:
    recipe = RECIPE.model_copy(update={"precision": precision})
    config = deepspeed_config(recipe, world, width=576, stage=stage)
    names = [name for name, _ in leaves(config.content)]
    assert set(names) == set(config.reasons)
    assert all(len(reason) > 10 for reason in config.reasons.values())
    assert set(names) <= KNOWN
    content = config.content
    batch = content["train_micro_batch_size_per_gpu"] * content["gradient_accumulation_steps"]
    assert content["train_batch_size"] == batch * world  # or DeepSpeed refuses
    assert content["train_batch_size"] >= recipe.batch_size
    assert content["bf16"]["enabled"] == (precision == "bf16")
    assert ("stage3_max_live_parameters" in content["zero_optimization"]) == (stage == 3)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_deepspeed_itself_takes_it(stage: int) -> None:
    zero = pytest.importorskip("deepspeed.runtime.zero.config")
    runtime = pytest.importorskip("deepspeed.runtime.config")
    content = json.loads(json.dumps(deepspeed_config(RECIPE, 1, width=576, stage=stage).content))
    read = zero.DeepSpeedZeroConfig(**content["zero_optimization"])  # refuses unknown names
    assert read.stage == stage
    whole = runtime.DeepSpeedConfig(content)
    assert whole.train_batch_size == 64
    assert whole.gradient_clipping == RECIPE.clip
    assert whole.bfloat16_config.enabled


def test_the_recipes_stage_is_taken_where_none_is_said() -> None:
    assert deepspeed_config(RECIPE, 2, width=64).content["zero_optimization"]["stage"] == 3


def test_it_is_written_as_json_with_a_text_that_explains_it(tmp_path: Path) -> None:
    config = deepspeed_config(RECIPE, 8, width=5120)
    write_deepspeed_config(config, tmp_path / "deepspeed.json")
    assert json.loads((tmp_path / "deepspeed.json").read_text()) == config.content
    text = (tmp_path / "deepspeed.txt").read_text(encoding="utf-8")
    assert text == explained(config)
    assert "zero_optimization.reduce_bucket_size = 26214400\n    values added up" in text


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="no stage 1"):
        deepspeed_config(RECIPE, 8, width=64, stage=1)
    with pytest.raises(InputError, match="0 processes"):
        deepspeed_config(RECIPE, 0, width=64)
    with pytest.raises(InputError, match="4 bits"):
        deepspeed_config(RECIPE.model_copy(update={"method": "qlora"}), 8, width=64)
