"""What a run will cost at the most, said before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from hinlap.app.app import App, prompt_for
from hinlap.app.declaration import ServiceSpec, StepSpec
from hinlap.core.counting import counted
from hinlap.core.errors import AppError
from hinlap.core.examples import Example
from hinlap.engines.tokens import estimate_tokens
from hinlap.routes.route import RouteContext

_BYTES_PER_TOKEN = 4


def most_usd(app: App, spec: ServiceSpec, items: Sequence[Example]) -> tuple[float, int, int]:
    """(USD, input tokens, output tokens) that ``items`` need at the most.

    Earlier outputs are not known yet: each counts as long as its step allows.
    """
    tokens_in = tokens_out = 0
    shots = sum(
        estimate_tokens("".join([*e.inputs.values(), *e.wanted.values()]))
        for e in app.train[: spec.shots]
    )
    for example in items:
        fields = dict(example.inputs)
        for step in app.spec.steps:
            seen = dict(fields)
            fields[step.name] = _longest_output(step)
            if step.name in app.functions:
                continue
            try:
                prompt = prompt_for(step, seen)
                said = sum(estimate_tokens(m.text) + 8 for m in prompt.messages)
            except AppError:  # a template that looks into an output chokes on the made-up one
                said = sum(estimate_tokens(text) for text in (step.prompt, *seen.values()))
            tokens_in += shots + said
            tokens_out += step.max_tokens
    usd = (tokens_in * spec.prices.input + tokens_out * spec.prices.output) / 1e6
    return usd, tokens_in, tokens_out


def say_estimates(
    app: App, routes: Sequence[str], items: Sequence[Example], context: RouteContext
) -> None:
    """One line for every service route that would be paid."""
    for name in routes:
        spec = app.spec.routes[name]
        if spec.kind != "service" or not context.environment.get(spec.key_env, "").strip():
            continue
        usd, tokens_in, tokens_out = most_usd(app, spec, items)
        line = (
            f"{name}: {counted(len(items), 'item')} to {spec.model}, at most {tokens_in:,} tokens "
            f"in and {tokens_out:,} out: at most {usd:.4f} USD of the cap of {spec.budget_usd:.2f} "
            "(cached answers cost nothing)"
        )
        if usd > spec.budget_usd:
            line += "; it may stop at the cap"
        context.progress.say(line)


def _longest_output(step: StepSpec) -> str:
    return "x" * (step.max_tokens * _BYTES_PER_TOKEN)
