"""The shape of ``app.yaml``: every field, its default and its limits.

Unknown fields are errors: a misspelt one would otherwise be silently ignored. The same models
give the JSON schema that editors use (``hinlap schema``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

_NAME, _ROUTE_NAME = r"^[a-zก-ฮเ-ไ][a-z0-9_ก-๎]*$", r"^[a-z][a-z0-9-]*$"
NAME_PATTERNS = {
    _NAME: "lower-case letters a to z or Thai ones, digits and _, a letter first",
    _ROUTE_NAME: "lower-case letters a to z, digits and -, a letter first",
}
Name = Annotated[str, Field(pattern=_NAME, max_length=40)]
RouteName = Annotated[str, Field(pattern=_ROUTE_NAME, max_length=40)]
Positive = Annotated[float, Field(gt=0)]


class Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SamplingSpec(Declared):
    temperature: float = Field(0.0, ge=0, le=2, description="0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 keeps all tokens.")
    repetition_penalty: float = Field(1.0, ge=1, le=2, description="Local models only; 1 is none.")


class JsonParse(Declared):
    json_schema: dict[str, Any] = Field(
        description="The answer must be JSON that fits this schema."
    )


class OneOfParse(Declared):
    one_of: list[str] = Field(min_length=2, description="The answer must be one of these.")


def _parse_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "text"
    for kind in ("one_of", "json_schema"):
        if hasattr(value, kind) or (isinstance(value, dict) and kind in value):
            return kind
    return None


ParseSpec = Annotated[
    Annotated[Literal["text"], Tag("text")]
    | Annotated[OneOfParse, Tag("one_of")]
    | Annotated[JsonParse, Tag("json_schema")],
    Discriminator(
        _parse_kind,
        custom_error_type="parse_kind",
        custom_error_message="must be text, {one_of: [...]} or {json_schema: {...}}",
    ),
]


class StepSpec(Declared):
    name: Name
    prompt: str = Field(min_length=1, description="Jinja2; sees the inputs and earlier steps.")
    system: str = Field("", description="System message, Jinja2 as well.")
    max_tokens: int = Field(128, ge=1, le=32_768)
    stop: list[str] = Field(default_factory=list, max_length=8)
    sampling: SamplingSpec = SamplingSpec()
    parse: ParseSpec = "text"

    @model_validator(mode="after")
    def _stops_are_not_empty(self) -> StepSpec:
        if any(not stop for stop in self.stop):
            raise ValueError("a stop string must not be empty")
        return self


class ExamplesSpec(Declared):
    train: str | None = Field(None, description="JSONL or CSV: examples that may teach.")
    test: str | None = Field(None, description="JSONL or CSV: items that only measure.")
    teach_with_test: list[str] = Field(
        default_factory=list,
        description="Names of files that may teach although their manifest says they hold the "
        "test rows of a split.",
    )


class PricesSpec(Declared):
    """USD per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(None, ge=0, description="Default: as input.")


class ZeroShotSpec(Declared):
    kind: Literal["zero-shot"]
    model: str = Field("smollm2-135m-instruct", description="Catalogue name, hub id or folder.")


class FewShotSpec(Declared):
    kind: Literal["few-shot"]
    model: str = "smollm2-135m-instruct"
    k: int = Field(3, ge=1, le=64, description="Examples shown before each item.")
    select: Literal["fixed", "random", "similar"] = Field(
        "fixed", description="The first k, k drawn by seed, or the k most similar (BM25)."
    )
    seed: int = 0


class ServiceSpec(Declared):
    kind: Literal["service"]
    model: str
    base_url: str = Field("https://api.openai.com/v1", pattern=r"^https?://")
    key_env: str = Field(
        "OPENAI_API_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable with the key (never the key itself).",
    )
    prices: PricesSpec
    budget_usd: float = Field(1.0, ge=0, description="Hard cap for one run of a command.")
    concurrency: int = Field(4, ge=1, le=64)
    timeout_seconds: float = Field(60.0, gt=0, le=3600)
    max_retries: int = Field(5, ge=0, le=20)
    shots: int = Field(0, ge=0, le=64, description="Examples shown, as in few-shot.")
    select: Literal["fixed", "random", "similar"] = "fixed"
    seed: int = 0
    stand_in: bool = Field(
        False,
        description="Without a key, talk over HTTP to a local stand-in that runs the embedded "
        "model; shown as such, and never chosen.",
    )
    stand_in_items: int | None = Field(
        12, ge=1, description="Items that a stand-in answers at the most; null: all."
    )


class FineTunedSpec(Declared):
    kind: Literal["fine-tuned"]
    model: str = "smollm2-135m-instruct"
    examples: int | None = Field(None, ge=1, description="First train examples only; null: all.")
    epochs: int = Field(3, ge=1, le=100)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    target: Literal["attention", "all-linear"] = Field(
        "attention",
        description="Layers that get LoRA matrices: PEFT's default for the architecture (parts of "
        "the attention), or every linear layer (slower).",
    )
    batch_size: int = Field(4, ge=1, le=512)
    rank: int = Field(8, ge=1, le=256, description="Of the LoRA matrices.")
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    warmup_steps: int = Field(4, ge=0)
    max_length: int = Field(1024, ge=16, description="Longer rows are left out, counted and said.")
    seed: int = 0


RouteSpec = Annotated[
    ZeroShotSpec | FewShotSpec | ServiceSpec | FineTunedSpec, Field(discriminator="kind")
]


class MetricSpec(Declared):
    metric: str = Field(description="See docs/app-yaml.md for the list.")
    step: Name = Field(description="The step whose output is measured.")
    label: str | None = Field(None, description="Column with the reference, if not the step's.")
    of: list[str] | None = Field(
        None, min_length=2, description="For passes_all: the STEP.METRIC shares to pass."
    )

    @property
    def key(self) -> str:
        return f"{self.step}.{self.metric}"


class LimitsSpec(Declared):
    """What a route must keep to be chosen at all."""

    cost_per_1000_usd: Positive | None = None
    p95_seconds: Positive | None = None
    data_stays_on_machine: bool = False
    usable_share: float = Field(
        0.8, ge=0, le=1, description="Least share of items with an answer that could be used."
    )


class DecideSpec(Declared):
    by: str = Field(description="STEP.METRIC that decides among the routes within the limits.")
    limits: LimitsSpec = LimitsSpec()


class CostsSpec(Declared):
    """What own machines cost, and how much traffic a tuning is spread over."""

    machine_usd_per_hour: float = Field(0.10, ge=0)
    requests_per_month: float = Field(10_000, gt=0)
    months: float = Field(3, gt=0, description="How long one tuning is used before the next.")


class AppSpec(Declared):
    name: Annotated[str, Field(min_length=1, max_length=80)]
    description: str = ""
    language: Literal["en", "th"] = Field("en", description="Of the report and of text metrics.")
    inputs: list[Name] = Field(min_length=1)
    steps: list[StepSpec] = Field(min_length=1)
    examples: ExamplesSpec = ExamplesSpec()
    routes: dict[RouteName, RouteSpec] = Field(min_length=1)
    metrics: list[MetricSpec] = Field(default_factory=list)
    decide: DecideSpec | None = None
    costs: CostsSpec = CostsSpec()
    seed: int = Field(0, description="Of bootstraps and of the draw of candidates.")


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of ``app.yaml``."""
    schema = AppSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Hinlap app.yaml"
    return schema
