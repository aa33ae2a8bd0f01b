"""How to tune: the fields of a recipe file, and reading one by name or path.

A recipe is YAML, one page with its paper or source; ``recipes/`` beside this file holds those
that Hinlap knows by name.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hinlap.app.yaml_lines import LinedYaml
from hinlap.core.errors import AppError, InputError

RECIPES = Path(__file__).parent / "recipes"
Method = Literal["lora", "full", "qlora", "scratch"]
Share = Annotated[float, Field(ge=0, lt=1)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LoraFields(_Fields):
    """Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models"."""

    rank: int = Field(8, ge=1, le=1024)
    alpha: float = Field(16.0, gt=0, description="The product is scaled by alpha / rank.")
    dropout: Share = 0.0
    target: Literal["attention", "all-linear"] = Field(
        "all-linear",
        description="Every linear layer but the head, or PEFT's default for the architecture "
        "(parts of the attention).",
    )


class FreshFields(_Fields):
    """A model from scratch: its shape, and the tokenizer trained for it."""

    architecture: Literal["llama", "gpt_neox"] = "llama"
    vocabulary: int = Field(4096, ge=300, le=200_000, description="BPE tokens, bytes included.")
    layers: int = Field(4, ge=1, le=128)
    width: int = Field(256, ge=8, description="Of the residual stream; a multiple of heads.")
    heads: int = Field(4, ge=1)
    inner: int = Field(704, ge=8, description="Width inside the feed-forward layers.")
    window: int = Field(512, ge=16, description="Tokens that it can read.")


class DataFields(_Fields):
    """Where the rows come from when the command names no file."""

    source: str = Field("", description="hf:owner/name, or a file relative to the recipe.")
    revision: str = ""
    format: str = Field("", description="As for `hinlap data import`; empty: recognised.")
    column: str = Field(
        "",
        description="Running text is read from this column, each row a document (from-scratch).",
    )


class EarlyStopping(_Fields):
    patience: int = Field(3, ge=1, description="Evaluations without a better loss before it stops.")
    least_gain: float = Field(0.0, ge=0, description="Nats a token that count as better.")


class Recipe(_Fields):
    """Every number that decides how a model is tuned.

    batch_size is that of an optimizer step over all processes, in sequences. precision of
    ``bf16``: matrix products in bfloat16, trained weights and their optimizer in float32.
    """

    name: str = Field(min_length=1, max_length=60, pattern=r"^[a-z0-9][a-z0-9.-]*$")
    source: str = Field("", description="The paper or code whose numbers these are.")
    model: str = Field("smollm2-135m-instruct", description="Catalogue name, hub id or folder.")
    method: Method = "lora"
    format: Literal["own", "alpaca", "dolly", "text"] = Field(
        "own", description="own: the model's chat template. text: running text, all of it learnt."
    )
    special_tokens: tuple[str, ...] = Field(
        (), description="Added to the vocabulary; new rows are learnt (full tuning only)."
    )
    data: DataFields = DataFields()
    rows: int | None = Field(None, ge=1, description="The first so many rows only; null: all.")
    held_out_rows: int = Field(200, ge=0, description="Rows that measure, drawn by seed.")
    epochs: int = Field(3, ge=1, le=1000)
    learning_rate: float = Field(2e-4, gt=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(0, ge=0)
    warmup_ratio: Share = Field(0.0, description="Share of all steps, where no steps are said.")
    batch_size: int = Field(4, ge=1)
    max_length: int = Field(512, ge=16, description="Longer sequences are left out and counted.")
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, ge=0, description="Largest norm of a step's gradient; 0: no limit.")
    precision: Literal["bf16", "float32"] = "float32"
    seed: int = 0
    lora: LoraFields = LoraFields()
    fresh: FreshFields = FreshFields()
    evaluate_every: int = Field(0, ge=0, description="Steps; 0: at the start and each epoch's end.")
    early_stopping: EarlyStopping | None = None
    checkpoint_every: int = Field(20, ge=1, description="Steps.")
    forward_tokens: int = Field(2048, ge=16, description="Tokens of one forward at the most.")
    gradient_checkpointing: bool = Field(
        False, description="Compute inner values twice instead of keeping them: less memory."
    )
    zero: Literal[0, 2, 3] = Field(0, description="DeepSpeed's ZeRO stage where it is launched.")

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.method == "scratch" and self.format != "text":
            raise ValueError("method scratch learns running text: format must be text")
        if self.special_tokens and self.method not in ("full", "scratch"):
            raise ValueError(
                f"method {self.method} does not learn the rows of new special_tokens: use full"
            )
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        if self.method == "scratch" and self.fresh.width % self.fresh.heads:
            raise ValueError("fresh.width must be a multiple of fresh.heads")
        return self


def recipe_names() -> list[str]:
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def read_recipe(name: str, *, small: bool = False, changes: dict[str, Any] | None = None) -> Recipe:
    """The recipe of a known name, or of a YAML file.

    small:   with what its ``small:`` block says otherwise.
    changes: fields by dotted name (``lora.rank``) that the caller wants otherwise.
    Raises InputError for a name that is none, AppError (file, line, field) for a wrong file (its
    ``small:`` too, wanted or not), and for a change that does not fit.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, recipe_names(), 1)
        raise InputError(
            f"there is no recipe {name!r}",
            where="RECIPE",
            hint=(f"{near[0]}? " if near else "")
            + f"known are {', '.join(recipe_names())}; a YAML file or an app works too",
        )
    try:
        document = LinedYaml(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error
    fields = dict(document.data)
    data = fields.get("data")
    if isinstance(data, dict) and isinstance(data.get("source"), str):
        source = data["source"]
        if source and not source.startswith("hf:"):  # a file: relative to the recipe
            fields["data"] = data | {"source": str(path.parent / source)}
    smaller = fields.pop("small", None)
    if smaller is not None and not isinstance(smaller, dict):
        raise AppError("expected fields (name: value)", where=document.where(("small",)))
    if small and smaller is None:
        raise AppError(
            f"the recipe {fields.get('name', name)!r} has no small form",
            where=str(path),
            hint="add a block `small:` with the fields that are to differ",
        )
    if smaller is not None:
        _checked(document, fields, smaller, {})
    return _checked(document, fields, smaller if small else None, changes or {})


def _checked(
    document: LinedYaml,
    fields: dict[str, Any],
    smaller: dict[str, Any] | None,
    changes: dict[str, Any],
) -> Recipe:
    if smaller is not None:
        fields = _over(fields, smaller)
    for dotted, value in changes.items():
        fields = _over(fields, _nested(dotted, value))
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise _explained(error, document, smaller, changes) from None


def _over(fields: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    merged = dict(fields)
    for key, value in others.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = _over(before, value) if both else value  # type: ignore[arg-type]
    return merged


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    head, _, rest = dotted.partition(".")
    return {head: _nested(rest, value) if rest else value}


def _explained(
    error: ValidationError,
    document: LinedYaml,
    smaller: dict[str, Any] | None,
    changes: dict[str, Any],
) -> AppError:
    """The first problem with its place: the file's line, the small block's, or the change."""
    problem = error.errors()[0]
    place = tuple(problem["loc"])
    dotted = ".".join(map(str, place))
    what = str(problem["msg"]).removeprefix("Value error, ")
    hint = "docs/tuning.md lists the fields of a recipe"
    if problem["type"] == "extra_forbidden":
        holder: Any = Recipe
        for part in place[:-1]:
            holder = holder.model_fields[part].annotation
            holder = (get_args(holder) or (holder,))[0]  # of X | None
        names = getattr(holder, "model_fields", {})
        near = difflib.get_close_matches(str(place[-1]), list(names), 1)
        what = f"there is no field {place[-1]!r}"
        hint = f"{near[0]}? " + hint if near else hint
    elif problem["type"] == "missing":
        what = f"the field {place[-1]!r} is missing"
    elif problem["type"] == "model_type":
        what = "expected fields (name: value)"
    elif problem["type"] != "value_error":
        what = f"{what[0].lower()}{what[1:]}, not {problem['input']!r}"
    if dotted in changes:
        return AppError(what, where=f"--set {dotted}", hint=hint)
    if smaller is not None and place and place[0] in smaller:
        return AppError(what, where=document.where(("small", *place)), hint=hint)
    return AppError(what, where=document.where(place), hint=hint)
