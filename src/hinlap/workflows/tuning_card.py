"""The model card of a tuned model: README.md with the hub's front matter, from what is known of it
and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from hinlap.core.version import __version__
from hinlap.data.licences import NOT_ADVICE, Terms, licence_of, terms_of
from hinlap.data.whole_file import write_whole
from hinlap.engines.catalogue import CATALOGUE, CatalogueEntry
from hinlap.tuning.tuned import ADAPTER, MODEL, Taught, Tuned
from hinlap.workflows.numbers import short, with_interval
from hinlap.workflows.tuning_report import (
    TUNED,
    SystemFigure,
    TuningReport,
    finite,
    forgetting_line,
    headline,
    is_small,
    perplexity,
    reasons,
    recipe_fields,
    tokens_per_second,
)

CARD = "README.md"
MERGED, GGUF = "merged", "model.gguf"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_METHODS = {
    "lora": "LoRA (Hu et al. 2021): small matrices beside the base's linear layers",
    "qlora": "QLoRA (Dettmers et al. 2023): LoRA beside a base held in 4 bits",
    "full": "all weights of the base",
    "scratch": "a model from scratch: no base",
}
_FORMATS = {
    "own": "the base's own chat template",
    "alpaca": "Alpaca's",
    "dolly": "Dolly's",
    "text": "none: it continues running text",
}


@dataclass(frozen=True, slots=True)
class TuningCard:
    """What the card says beyond the tuned model itself.

    name:         of the model, as a person would call it.
    report:       whose tuned model and figures these are; the card is in English.
    base_licence: of the base; "" for that of the catalogue, or unknown.
    languages:    ISO 639-1 codes of the answers taught; none is guessed.
    prompt:       one prompt exactly as the model is asked, special tokens included; "" for none.
    """

    name: str
    report: TuningReport
    base_licence: str = ""
    languages: Sequence[str] = ()
    prompt: str = ""


def write_tuning_card(path: Path, card: TuningCard) -> None:
    """Writes the card, or nothing. Raises as ``write_whole``."""
    write_whole(path, card_text(card).encode("utf-8", "replace"))


def card_text(card: TuningCard) -> str:
    """The card. Links and code in it are relative to the folder of the tuned model.

    A path outside that folder is given by its last part only: a card is made to be passed on.
    """
    if card.report.language != "en":
        card = replace(card, report=replace(card.report, language="en"))
    head = yaml.safe_dump(_front(card), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{_body(card)}"


def _front(card: TuningCard) -> dict[str, Any]:
    tuned = card.report.tuned
    front: dict[str, Any] = {}
    base = _base_hub_id(tuned)
    if base:
        front["base_model"] = base
        front["base_model_relation"] = "adapter" if tuned.adapter else "finetune"
    front |= _front_licence(_licences(card))
    if card.languages:
        front["language"] = list(card.languages)
    sets = dict.fromkeys(filter(None, (_hub_set(each) for each in tuned.taught)))
    if sets:
        front["datasets"] = list(sets)
    front["library_name"] = "peft" if tuned.adapter else "transformers"
    front["pipeline_tag"] = "text-generation"
    front["tags"] = ["hinlap", tuned.recipe.method]
    results = _results(card)
    if results:
        front["model-index"] = [{"name": card.name, "results": results}]
    return front


def _front_licence(sets: Mapping[str, str]) -> dict[str, str]:
    """In the hub's own names: SPDX in small letters, "other", "unknown"."""
    if not sets or any(licence_of(text) is None for text in sets.values()):
        named = sorted(set(filter(None, sets.values())))
        if len(named) == 1 and all(sets.values()):  # one, which the table does not hold
            return {"license": "other", "license_name": named[0]}
        return {"license": "unknown"}
    whole = terms_of(sets).licence
    if whole:
        return {"license": whole.lower()}
    several = " and ".join(dict.fromkeys(_spdx(text) for text in sets.values()))
    return {"license": "other", "license_name": several}


def _spdx(text: str) -> str:
    found = licence_of(text)
    return found.name if found else text


def _results(card: TuningCard) -> list[dict[str, Any]]:
    """The tuned model's own figures, as the hub's model-index holds them."""
    report = card.report
    measured = [
        {"type": f.metric, "name": f.metric, "value": f.interval.value}
        for f in report.findings.figures
        if f.system == TUNED and f.interval.value is not None
    ]
    results = []
    if measured:
        name = report.items or "items of its own"
        dataset = {"name": name, "type": _dataset_type(report.tuned)}
        results.append(_result(dataset, measured))
    last = report.tuned.kept
    if last is not None:
        own: list[tuple[str, float | None]] = [
            ("loss", finite(last.loss)), ("perplexity", perplexity(last.loss)),
            ("token_accuracy", last.accuracy),
        ]  # fmt: skip
        dataset = {"name": "held-out rows", "type": _dataset_type(report.tuned)}
        metrics = [{"type": n, "name": n, "value": v} for n, v in own if v is not None]
        results.append(_result(dataset, metrics))
    return results


def _result(dataset: dict[str, str], metrics: list[dict[str, Any]]) -> dict[str, Any]:
    return {"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics}


def _dataset_type(tuned: Tuned) -> str:
    return next(filter(None, (_hub_set(each) for each in tuned.taught)), "custom")


def _hub_set(taught: Taught) -> str:
    found = taught.source.removeprefix("hf:")
    return found if taught.source.startswith("hf:") and _HUB_ID.fullmatch(found) else ""


def _entry(tuned: Tuned) -> CatalogueEntry | None:
    return next((e for e in CATALOGUE.values() if tuned.base in (e.name, e.hub_id)), None)


def _base_hub_id(tuned: Tuned) -> str:
    """Where the base is on the hub; "" from scratch, and for a folder of this machine."""
    entry = _entry(tuned)
    if entry is not None:
        return entry.hub_id
    local = Path(tuned.base).expanduser().exists()
    return tuned.base if _HUB_ID.fullmatch(tuned.base) and not local else ""


def _base_named(tuned: Tuned) -> str:
    return _base_hub_id(tuned) or Path(tuned.base).name


def _licences(card: TuningCard) -> dict[str, str]:
    """Licence by name, of the base and of each set; "" for unknown."""
    tuned = card.report.tuned
    sets: dict[str, str] = {}
    if tuned.base:
        entry = _entry(tuned)
        known = card.base_licence or (entry.licence if entry else "")
        sets[f"base {_base_named(tuned)}"] = known
    for taught in tuned.taught:
        name = _path(tuned, taught.path)
        while name in sets:  # two files of one name
            name += "'"
        sets[name] = taught.licence
    return sets


def _path(tuned: Tuned, path: str) -> str:
    """As a card to be passed on names it: nothing of this machine's folders."""
    if not Path(path).is_absolute():
        return path
    if Path(path).is_relative_to(tuned.home):
        return str(Path(path).relative_to(tuned.home))
    return Path(path).name


def _body(card: TuningCard) -> str:
    report, tuned = card.report, card.report.tuned
    recipe = tuned.recipe
    lines = [f"# {_one_line(card.name)}", "", _what(card), ""]
    lines += [f"**{headline(report)}**", ""]
    lines += [f"- {line}" for line in reasons(report)]
    lines += ["", "## Figures", "", *_figures(card)]
    lines += ["", "## Prompt format", "", *_prompt(card)]
    lines += ["", "## Loading it", "", *_loading(card)]
    lines += ["", "## Data", "", *_data(card)]
    lines += ["", "## Licence", "", *_licence(card)]
    lines += ["", "## Recipe", "", f"`{recipe.name}`: {_METHODS[recipe.method]}."]
    lines += [f"Its numbers are from {recipe.source}"] if recipe.source else []
    lines += ["", "| field | value |", "|---|---|"]
    lines += [f"| {name} | {_cell(_shown_value(name, v))} |" for name, v in recipe_fields(recipe)]
    lines += ["", "## Training", "", *_training(tuned)]
    lines += ["", "## Limits", "", *_limits(card)]
    lines += ["", f"Made by Hinlap {__version__}{_at(report.made_at)}.", ""]
    return "\n".join(lines)


def _at(made_at: str) -> str:
    return f", {made_at}" if made_at else ""


def _what(card: TuningCard) -> str:
    tuned = card.report.tuned
    if not tuned.base:
        return f"A language model trained from scratch on {tuned.rows:,} sequences."
    digest = f" (weights `{tuned.base_digest[:16]}`)" if tuned.base_digest else ""
    shape = "An adapter for" if tuned.adapter else "A tuned form of"
    return f"{shape} {_base_named(tuned)}{digest}, taught by {tuned.rows:,} sequences."


def _figures(card: TuningCard) -> list[str]:
    report, tuned = card.report, card.report.tuned
    found = report.findings
    lines = []
    if found.figures:
        lines += [f"On {report.items or 'items of its own'}, every system on the same.", ""]
        lines += _table(found.figures, [*report.systems])
    last = tuned.kept
    if last is not None:
        first = tuned.evaluations[0]
        rows = [("before", first)] if first.step == 0 else []
        rows += [("after", last)] if last.step > 0 else []
        lines += ["", "On rows held out from training, by learnt token:", ""]
        lines += ["| | loss | perplexity | accuracy | tokens |", "|---|---|---|---|---|"]
        lines += [
            f"| {when} (step {e.step:,}) | {short(finite(e.loss))} | {short(perplexity(e.loss))} | "
            f"{short(e.accuracy)} | {e.tokens:,} |"
            for when, e in rows
        ]
    if found.forgot:
        lines += ["", f"On a general set ({report.general_set or 'not named'}), before and after:"]
        lines += ["", *_table(found.general, [*report.forgetting]), ""]
        lines += [f"- {metric}: {forgetting_line(report, metric)}" for metric in found.forgot]
    signatures = dict.fromkeys(f.signature for f in (*found.figures, *found.general))
    if signatures:
        lines += ["", "In brackets are 95% bootstrap intervals over items. Signatures: "
                  + "; ".join(f"`{each}`" for each in signatures)]  # fmt: skip
    return lines or ["Nothing was measured."]


def _table(figures: Sequence[SystemFigure], systems: Sequence[str]) -> list[str]:
    cells = {(f.metric, f.system): f for f in figures}
    lines = [f"| | {' | '.join(map(_cell, systems))} |", "|---" * (1 + len(systems)) + "|"]
    for metric in dict.fromkeys(f.metric for f in figures):
        better = next(f.higher_is_better for f in figures if f.metric == metric)
        row = [f"{_cell(metric)} ({'higher' if better else 'lower'} is better)"]
        for system in systems:
            found = cells.get((metric, system))
            row.append("–" if found is None else _figure(found))
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _figure(figure: SystemFigure) -> str:
    more = f", {figure.undefined:,} without a value" if figure.undefined else ""
    return f"{with_interval(figure.interval)} (n={figure.interval.n:,}{more})"


def _prompt(card: TuningCard) -> list[str]:
    form = card.report.tuned.recipe.format
    lines = [f"{form}: {_FORMATS[form]}. It is in the tokenizer's files; a model asked in another "
             "form answers worse."]  # fmt: skip
    if card.prompt:
        lines += ["", "One prompt exactly as it is asked:", "", *_fenced(card.prompt)]
    return lines


def _fenced(text: str, kind: str = "text") -> list[str]:
    """A block of code, whatever runs of backticks the text holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{kind}", text, fence]


def _loading(card: TuningCard) -> list[str]:
    tuned = card.report.tuned
    folder = ADAPTER if tuned.adapter else MODEL
    lines = ["In this folder, with transformers" + (" and PEFT:" if tuned.adapter else ":"), ""]
    code = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    if tuned.adapter:
        code += [
            "from peft import PeftModel", "",
            f"base = AutoModelForCausalLM.from_pretrained({_base_for_code(tuned)!r})",
            f'model = PeftModel.from_pretrained(base, "{folder}")',
        ]  # fmt: skip
    else:
        code += ["", f'model = AutoModelForCausalLM.from_pretrained("{folder}")']
    code += [
        f'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
        *_asking(tuned),
        "answer = model.generate(**inputs, max_new_tokens=200, do_sample=False)",
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], '
        "skip_special_tokens=True))",
    ]
    lines += _fenced("\n".join(code), "python")
    if (tuned.home / MERGED).is_dir():
        lines += ["", f"`{MERGED}/` holds the same as whole weights, which load without PEFT."]
    lines.append("")
    if (tuned.home / GGUF).is_file():
        asked = "-p 'Once'" if tuned.recipe.format == "text" else "-cnv --jinja"
        lines += ["With llama.cpp:", "", *_fenced(f"llama-cli -m {GGUF} {asked} --temp 0", "sh")]
    else:
        lines.append(f"llama.cpp reads `{GGUF}`, which this folder does not hold.")
    return lines


def _base_for_code(tuned: Tuned) -> str:
    return _base_hub_id(tuned) or f"FOLDER/OF/{Path(tuned.base).name}"


def _asking(tuned: Tuned) -> list[str]:
    if tuned.recipe.format == "text":
        return ['inputs = tokenizer("Once", return_tensors="pt")']
    return [
        'messages = [{"role": "user", "content": "Why is the sky blue?"}]',
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        ")",
    ]


def _data(card: TuningCard) -> list[str]:
    tuned = card.report.tuned
    lines = []
    if tuned.taught:
        lines += ["| file | rows | licence | SHA-256 | from |", "|---|---|---|---|---|"]
    for each in tuned.taught:
        source = each.source + (f" at {each.revision[:12]}" if each.revision else "")
        lines.append(
            f"| {_cell(_path(tuned, each.path))} | {each.rows:,} | "
            f"{_cell(each.licence or 'unknown')} | `{each.sha256}` | {_cell(source or 'unknown')} |"
        )
    if not tuned.taught:
        lines.append("The files that taught were not kept.")
    lines.append("")
    if tuned.left_out:
        said = "; ".join(f"{why}: {count:,}" for why, count in tuned.left_out.items())
        lines.append(f"Left out: {said}.")
    else:
        lines.append("No row was left out.")
    return lines


def _licence(card: TuningCard) -> list[str]:
    sets = _licences(card)
    terms: Terms = terms_of(sets)
    words = {True: "yes", False: "no", None: "unknown"}
    lines = [f"- {_one_line(name)}: {_spdx(text) or 'unknown'}" for name, text in sets.items()]
    if not sets:
        return ["Unknown: neither a base nor a set is named."]
    lines += [
        "", "Were the model a work made from all of these:", "",
        f"- commercial use: {words[terms.commercial]}",
        f"- passed on as one work: {words[terms.as_one_work]}",
        *(f"- {_one_line(reason)}" for reason in terms.reasons),
    ]  # fmt: skip
    if terms.attribution:
        lines.append(f"- to be named: {_one_line(', '.join(terms.attribution))}")
    return [*lines, "", f"Whether it is one differs from place to place. {NOT_ADVICE}"]


def _training(tuned: Tuned) -> list[str]:
    speed = tokens_per_second(tuned)
    lines = [
        f"- machine: {tuned.machine or 'unknown'}",
        f"- time of the steps: {tuned.seconds:,.1f} seconds, {short(speed)} tokens a second",
        f"- steps: {len(tuned.losses):,}; tokens: {tuned.tokens:,}, of which "
        f"{tuned.learnt_tokens:,} taught",
    ]
    if tuned.losses:
        lines.append(
            f"- loss, nats a learnt token: {short(finite(tuned.losses[0]))} in the first step, "
            f"{short(finite(tuned.losses[-1]))} in the last"
        )
    if tuned.stopped:
        lines.append(f"- stopped early: {_one_line(tuned.stopped)}")
    if tuned.digest:
        lines.append(f"- digest of weights, rows and recipe: `{tuned.digest}`")
    return lines


def _limits(card: TuningCard) -> list[str]:
    report, tuned = card.report, card.report.tuned
    standing, small = report.findings.standing, is_small(tuned)
    lines = []
    if small:
        entry = _entry(tuned)
        count = f" ({entry.parameters / 1e6:,.0f} million parameters)" if entry else ""
        lines.append(f"It is a small model{count}, so a weak one: it states wrong facts, loses the "
                     "thread of long texts and cannot be relied on.")  # fmt: skip
    elif small is None:
        lines.append("It states wrong facts, as language models do: check what it says.")
    lines.append("Nothing was done to make it safe, and nothing here measures whether it is. It "
                 "may answer with what is harmful, false or biased.")  # fmt: skip
    if tuned.base and standing == "unknown":
        lines.append("It was not measured beside its base: whether tuning helped is not known.")
    elif tuned.base and standing != "better":
        lines.append("It is not shown to be better than its base in every comparison above.")
    if not report.findings.forgot:
        lines.append("What it forgot was not measured: tasks other than the taught one may have "
                     "become worse.")  # fmt: skip
    if card.languages:
        lines.append(f"It was taught in {', '.join(card.languages)}; others were not looked at.")
    else:
        lines.append("The language of what taught it was not named.")
    lines.append("One training was measured; another seed would give somewhat other figures.")
    return [f"- {line}" for line in [*lines, *map(_one_line, report.notes)]]


def _shown_value(name: str, value: str) -> str:
    if name in ("model", "data.source") and Path(value).is_absolute():
        return Path(value).name
    return value


def _cell(text: str) -> str:
    """A text that a table of Markdown can hold."""
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())
