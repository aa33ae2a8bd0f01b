"""Recipes: those that come along, and what a wrong one is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hinlap.app.declaration import FineTunedSpec
from hinlap.core.errors import AppError, InputError
from hinlap.engines.prompt_formats import FORMATS
from hinlap.tuning.recipe import (
    RECIPES,
    DataFields,
    EarlyStopping,
    FreshFields,
    LoraFields,
    Recipe,
    read_recipe,
    recipe_names,
)

NAMES = ["alpaca", "dolly-v1", "dolly-v2", "from-scratch", "news-riddles"]

# of the sources that the files name
PUBLISHED: dict[str, dict[str, Any]] = {
    "dolly-v2": {
        "epochs": 2, "learning_rate": 5e-6, "warmup_steps": 50, "batch_size": 48,
        "held_out_rows": 200, "zero": 3, "precision": "bf16", "method": "full",
        "max_length": 2048, "format": "dolly", "special_tokens": FORMATS["dolly"].special_tokens,
    },
    "dolly-v1": {
        "epochs": 1, "learning_rate": 1e-5, "warmup_steps": 0, "batch_size": 64,
        "held_out_rows": 1000, "zero": 3, "precision": "bf16", "method": "full",
        "max_length": 2048, "format": "dolly", "special_tokens": FORMATS["dolly"].special_tokens,
    },
    "alpaca": {
        "epochs": 3, "learning_rate": 2e-5, "warmup_ratio": 0.03, "batch_size": 128,
        "schedule": "cosine", "max_length": 512, "weight_decay": 0.0, "precision": "bf16",
        "method": "full", "format": "alpaca", "special_tokens": (),
    },
    "from-scratch": {
        "learning_rate": 5e-4, "warmup_steps": 1000, "batch_size": 512, "weight_decay": 0.1,
        "schedule": "cosine", "max_length": 256, "clip": 1.0, "method": "scratch",
    },
}  # fmt: skip


def written(folder: Path, text: str) -> str:
    file = folder / "own.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def refused(path: str, **options: Any) -> str:
    with pytest.raises(AppError) as caught:
        read_recipe(path, **options)
    return str(caught.value).replace(path, "FILE")


def test_the_recipes_that_come_along() -> None:
    assert recipe_names() == NAMES


@pytest.mark.parametrize("small", [False, True], ids=["whole", "small"])
@pytest.mark.parametrize("name", NAMES)
def test_a_known_recipe_is_valid_and_says_where_it_comes_from(name: str, small: bool) -> None:
    recipe = read_recipe(name, small=small)
    assert recipe.name == name
    assert recipe.source.startswith("https://")
    assert (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").count("\n") <= 66
    assert recipe.data.source == "" or len(recipe.data.revision) == 40
    if small:
        assert recipe.model == "smollm2-135m-instruct"
        assert recipe.zero == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_numbers_are_those_of_its_source(name: str) -> None:
    recipe = read_recipe(name)
    assert {field: getattr(recipe, field) for field in PUBLISHED[name]} == PUBLISHED[name]


def test_the_small_dolly_teaches_the_format_to_all_weights() -> None:
    recipe = read_recipe("dolly-v2", small=True)
    assert (recipe.method, recipe.rows, recipe.epochs, recipe.max_length) == ("full", 8700, 1, 160)
    assert recipe.special_tokens == FORMATS["dolly"].special_tokens


def test_news_riddles_is_the_fine_tuned_route_as_it_is_without_words() -> None:
    route, recipe = FineTunedSpec(kind="fine-tuned"), read_recipe("news-riddles")
    shared = [
        "model",
        "epochs",
        "learning_rate",
        "batch_size",
        "warmup_steps",
        "max_length",
        "seed",
    ]
    assert [getattr(recipe, f) for f in shared] == [getattr(route, f) for f in shared]
    lora = ["target", "rank", "alpha", "dropout"]
    assert [getattr(recipe.lora, f) for f in lora] == [getattr(route, f) for f in lora]


def test_a_fresh_model_has_five_to_ten_million_weights() -> None:
    shape = read_recipe("from-scratch", small=True).fresh
    inside = shape.layers * (4 * shape.width**2 + 3 * shape.width * shape.inner)
    tied = inside + shape.vocabulary * shape.width
    assert 5e6 < tied < tied + shape.vocabulary * shape.width < 10e6


def test_changes_stand_over_the_small_form_and_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "name: own\nlora: {rank: 4, alpha: 8}\nsmall: {lora: {rank: 2}}\n")
    assert read_recipe(path).lora.rank == 4
    small = read_recipe(path, small=True)
    assert (small.lora.rank, small.lora.alpha) == (2, 8)
    assert read_recipe(path, small=True, changes={"lora.rank": 3}).lora.rank == 3


def test_an_unknown_recipe_is_told_with_those_that_there_are() -> None:
    with pytest.raises(InputError) as caught:
        read_recipe("doly-v2")
    assert str(caught.value) == (
        "RECIPE: there is no recipe 'doly-v2'\n  → dolly-v2? known are alpaca, dolly-v1, "
        "dolly-v2, from-scratch, news-riddles; a YAML file or an app works too"
    )


FIELDS = "docs/tuning.md lists the fields of a recipe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: own\nepohcs: 3\n",
            f"FILE:2: epohcs: there is no field 'epohcs'\n  → epochs? {FIELDS}",
        ),
        (
            "name: own\nlora:\n  rnk: 3\n",
            f"FILE:3: lora.rnk: there is no field 'rnk'\n  → rank? {FIELDS}",
        ),
        (
            "name: own\nearly_stopping: {patiense: 2}\n",
            "FILE:2: early_stopping.patiense: there is no field 'patiense'\n"
            f"  → patience? {FIELDS}",
        ),
        (
            "name: own\nsmall:\n  epohcs: 3\n",
            f"FILE:3: small.epohcs: there is no field 'epohcs'\n  → epochs? {FIELDS}",
        ),
        (
            "name: own\nepochs: many\n",
            "FILE:2: epochs: input should be a valid integer, unable to parse string as an "
            f"integer, not 'many'\n  → {FIELDS}",
        ),
        (
            "name: own\nmethod: lra\n",
            "FILE:2: method: input should be 'lora', 'full', 'qlora' or 'scratch', not 'lra'\n"
            f"  → {FIELDS}",
        ),
        ("name: own\nlora: 8\n", f"FILE:2: lora: expected fields (name: value)\n  → {FIELDS}"),
        ("name: own\nsmall: 8\n", "FILE:2: small: expected fields (name: value)"),
        ("epochs: 3\n", f"FILE:1: name: the field 'name' is missing\n  → {FIELDS}"),
        (
            "name: own\nspecial_tokens: [x]\n",
            "FILE:1: method lora does not learn the rows of new special_tokens: use full\n"
            f"  → {FIELDS}",
        ),
        (
            "name: own\nmethod: full\nspecial_tokens: [x]\nsmall: {method: lora}\n",
            "FILE:1: method lora does not learn the rows of new special_tokens: use full\n"
            f"  → {FIELDS}",
        ),
        (
            "name: own\nmethod: scratch\n",
            f"FILE:1: method scratch learns running text: format must be text\n  → {FIELDS}",
        ),
        (
            "name: own\nwarmup_steps: 3\nwarmup_ratio: 0.1\n",
            f"FILE:1: give warmup_steps or warmup_ratio, not both\n  → {FIELDS}",
        ),
    ],
)
def test_a_wrong_file_is_told_by_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    assert refused(written(tmp_path, text)) == message


def test_a_recipe_without_a_small_form_is_told(tmp_path: Path) -> None:
    assert refused(written(tmp_path, "name: own\n"), small=True) == (
        "FILE: the recipe 'own' has no small form\n"
        "  → add a block `small:` with the fields that are to differ"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"lora.rnk": 3},
            f"--set lora.rnk: there is no field 'rnk'\n  → rank? {FIELDS}",
        ),
        (
            {"epochs": 0},
            f"--set epochs: input should be greater than or equal to 1, not 0\n  → {FIELDS}",
        ),
    ],
)
def test_a_change_that_does_not_fit_is_told(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert refused(written(tmp_path, "name: own\n"), changes=changes) == message


def test_the_small_block_is_no_field_of_a_recipe() -> None:
    assert "small" not in Recipe.model_fields


def test_every_field_and_recipe_stands_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text(encoding="utf-8")
    names = [*Recipe.model_fields, *recipe_names()]
    for group in (LoraFields, FreshFields, DataFields, EarlyStopping):
        names += group.model_fields
    missing = [name for name in names if not re.search(rf"[`.]{re.escape(name)}[`.]", page)]
    assert not missing
