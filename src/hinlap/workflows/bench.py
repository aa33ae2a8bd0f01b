"""One published benchmark on one model or route: read, ask what is not known yet, measure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hinlap.benchmarks.benchmark import Benchmark, Given, Item
from hinlap.benchmarks.table import BENCHMARKS
from hinlap.core.counting import counted
from hinlap.core.errors import InputError, UserError
from hinlap.core.messages import Finish
from hinlap.core.progress import Progress
from hinlap.core.version import __version__
from hinlap.data.sources.pinned import is_pinned, pinned_file
from hinlap.data.text_file import read_utf8
from hinlap.engines.cache import rate_all
from hinlap.engines.classifier import Classifier, open_classifier
from hinlap.metrics.scores import Scores
from hinlap.stats.agreement import agreement
from hinlap.stats.binomial import binomial_p
from hinlap.stats.bootstrap import Interval, bootstrap_interval
from hinlap.stats.paired import Paired, Verdict
from hinlap.store.store import Store
from hinlap.workflows.bench_asking import Asked, MakeAsked
from hinlap.workflows.bench_prompts import Prompting, prompting
from hinlap.workflows.bench_windows import foreseen_windows
from hinlap.workflows.compare_runs import compare_pairs
from hinlap.workflows.metric_file import metric_as_json, write_metric
from hinlap.workflows.numbers import short

STORE = Path(".hinlap") / "store.db"
FEW_ITEMS = 100


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """data: a folder of original files, or the benchmark's one; None: they are fetched.

    limit: first items only. shots: None: the published preamble, or none. chat: the model's chat
    template. prompt_format: the one to chat by (`prompt_formats.FORMATS`); "" for the model's own.
    seed: of intervals, drawn answers and the choice of shots. rater: the classifier of answers, as
    `open_classifier` names them.
    """

    data: Path | None = None
    limit: int | None = None
    shots: int | None = None
    chat: bool = False
    dtype: str = "float32"
    seed: int = 0
    rater: str = "offline"
    prompt_format: str = ""


@dataclass(frozen=True)
class Measured:
    """A figure with its interval, over all items and by group. p_neutral: of a share as far from
    the neutral value by chance (exact binomial test); None where there is no such value."""

    scores: Scores
    interval: Interval
    groups: dict[str, Interval]
    p_neutral: float | None = None


@dataclass(frozen=True)
class BenchRun:
    """One benchmark on one model, finished.

    model: name; with model_digest all of it that decides. settings: of the run, by name.
    items, given: in one order. sha256: of the data's text. notes: what a reader must know.
    """

    benchmark: Benchmark
    model: str
    model_digest: str
    settings: dict[str, Any]
    items: Sequence[Item]
    given: Sequence[Given]
    figures: Sequence[Measured]
    sha256: str
    seed: int
    notes: Sequence[str] = field(default=())

    @property
    def key(self) -> str:
        """Names the run: another one of the same key takes its place in the store."""
        parts = [self.benchmark.name, self.model_digest, self.settings, self.sha256]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def find_benchmark(name: str) -> Benchmark:
    """By name, or a local one by its YAML file. Raises UserError with the names that there are."""
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if name.endswith((".yaml", ".yml")):
        from hinlap.benchmarks.local import read_local

        local = read_local(Path(name))
        if local.name in BENCHMARKS:
            raise UserError(
                f"{local.name} is a published benchmark", where=name, hint="rename the file"
            )
        return local
    raise UserError(
        f"there is no benchmark {name!r}",
        hint=f"one of: {', '.join(BENCHMARKS)}; or the YAML file of your own (docs/benchmarks.md)",
    )


def benchmark_file(benchmark: Benchmark, data: Path | None, progress: Progress) -> Path:
    """Where its first file is, after fetching what is to be fetched."""
    if data is not None and not data.is_dir():
        if not data.exists():
            raise InputError("there is no such file or folder", where=str(data), hint="--data DIR")
        return data
    if benchmark.own is not None:
        return benchmark.own
    first, *_ = [pinned_file(pinned, data, progress) for pinned in benchmark.files]
    return first


def read_benchmark(
    benchmark: Benchmark, options: BenchOptions, progress: Progress
) -> tuple[Path, Prompting, list[Item]]:
    """The file, how its items are put, and the first ``limit`` of those that are measured."""
    if options.limit is not None and options.limit < 1:
        raise UserError(f"a limit of {options.limit} leaves no items", hint="--limit 1 or more")
    file = benchmark_file(benchmark, options.data, progress)
    items = benchmark.read(file)
    if not items and not benchmark.running:
        raise InputError("there are no items", where=str(file))
    twice = [(item, n) for item, n in Counter(i.id for i in items).most_common(1) if n > 1]
    if twice:
        raise InputError(
            f"the id {twice[0][0]!r} stands there {twice[0][1]} times",
            where=str(file),
            hint="each item needs an id of its own",
        )
    how, kept = prompting(
        benchmark, items, shots=options.shots, chat=options.chat, seed=options.seed
    )
    return file, how, kept[: options.limit]


def run_bench(
    benchmark: Benchmark, make: MakeAsked, options: BenchOptions, store: Store, progress: Progress
) -> BenchRun:
    """Asks what the store does not have (so a killed run goes on), measures, keeps the run.

    Raises UserError for settings that cannot be, InputError for data that is not the
    benchmark's, ModelError for a model that cannot be had or has no chat template under ``chat``.
    """
    file, how, items = read_benchmark(benchmark, options, progress)
    rater = open_classifier(options.rater, progress) if benchmark.rated else None
    asked = make(benchmark, how, progress)
    notes: list[str] = []
    if benchmark.running:
        items, given, scores = foreseen_windows(asked, file, options.limit, store, progress)
    else:
        given = _ask(asked, items, rater, store, progress, notes)
        scores = benchmark.measure(items, given)
    figures = [
        Measured(
            each,
            _interval(each, options.seed),
            _by_group(each, items, options.seed),
            _p_neutral(each, benchmark),
        )
        for each in scores
    ]
    settings = {
        "shots": len(how.shots),
        "chat": how.chat,
        "limit": options.limit,
        "dtype": options.dtype,
        "seed": options.seed,
        "rater": rater.name if rater else None,
    }
    if options.prompt_format:
        settings["prompt_format"] = options.prompt_format
    if len(items) < FEW_ITEMS and not benchmark.running:
        notes.append(f"{counted(len(items), 'item')}: too few to say much")
    pinned = benchmark.files[0]
    if pinned.sha256 and not is_pinned(file, pinned):
        notes.append("the data is not the pinned revision: figures compare only on the same file")
    digest = hashlib.sha256(read_utf8(file).encode("utf-8")).hexdigest()  # gzipped or not
    run = BenchRun(
        benchmark, asked.name, asked.digest, settings, items, given, figures, digest,
        options.seed, notes,
    )  # fmt: skip
    content = json.dumps(run_as_json(run, how), ensure_ascii=True, allow_nan=False)
    store.keep_bench(run.key, benchmark.name, run.model, __version__, content)
    return run


def _ask(
    asked: Asked,
    items: Sequence[Item],
    rater: Classifier | None,
    store: Store,
    progress: Progress,
    notes: list[str],
) -> list[Given]:
    texts = sum(len(item.texts) for item in items)
    weighed: list[list[tuple[float, int]]] = [[] for _ in items]
    if texts:
        progress.start("weighing", texts)
        weighed = asked.weigh(items)
        progress.finish()
        over = asked.cut(items)
        if over:
            notes.append(
                f"{counted(over, 'text')} weighed after a prompt that lost its beginning: "
                "it is over the model's window"
            )
    answers: list[tuple[str | None, ...]] = [() for _ in items]
    if any(item.question for item in items):
        draws = max(1, asked.benchmark.draws)
        put = [item for item in items if item.question]
        progress.start("answering", len(put) * draws)
        done = asked.answer(put)
        progress.finish()
        texts_of = {
            item.id: tuple(None if a.finish is Finish.FAILED else a.text for a in each)
            for item, each in zip(put, done, strict=True)
        }
        answers = [texts_of.get(item.id, ()) for item in items]
        failed = [a.error for each in done for a in each if a.finish is Finish.FAILED]
        if failed:
            notes.append(f"{counted(len(failed), 'answer')} failed, such as: {failed[0]}")
        cut = sum(a.finish is Finish.LENGTH for each in done for a in each)
        if cut and asked.benchmark.draws == 1:
            limit = asked.benchmark.sampling.max_tokens if asked.benchmark.sampling else 0
            notes.append(f"{counted(cut, 'answer')} cut at {limit} tokens")
    ratings: list[tuple[float | None, ...]] = [() for _ in items]
    if rater is not None:
        flat = [a for each in answers for a in each if a is not None]
        progress.start(f"rating by {rater.name}", len(flat))
        rated = iter(rate_all(rater, store, flat, progress))
        progress.finish()
        ratings = [tuple(None if a is None else next(rated) for a in each) for each in answers]
        notes += _agreement(asked.benchmark, items, rater, store, progress)
        unrated = sum(r is None for each in ratings for r in each)
        if unrated:
            notes.append(f"{counted(unrated, 'answer')} without a rating")
    return [
        Given(tuple(n for n, _ in w), tuple(t for _, t in w), a, r)
        for w, a, r in zip(weighed, answers, ratings, strict=True)
    ]


def _agreement(
    benchmark: Benchmark,
    items: Sequence[Item],
    rater: Classifier,
    store: Store,
    progress: Progress,
) -> list[str]:
    """How far the classifier can be trusted here: against the data set's own ratings."""
    if benchmark.rated_facts is None:
        return []
    text, rating = benchmark.rated_facts
    known = [item.facts for item in items if item.facts.get(rating) is not None]
    progress.start(f"rating the data set's own texts by {rater.name}", len(known))
    ratings = rate_all(rater, store, [facts[text] for facts in known], progress)
    progress.finish()
    both = [(r, facts[rating]) for r, facts in zip(ratings, known, strict=True) if r is not None]
    found = agreement([r for r, _ in both], [t for _, t in both])
    return [
        f"{rater.name} against the data set's own ratings of {counted(found.n, 'text')}: "
        f"AUC {short(found.auc)}, Spearman {short(found.spearman)}, at 0.5 precision "
        f"{short(found.precision)}, recall {short(found.recall)}"
    ]


def write_bench(run: BenchRun, path: Path) -> None:
    """The figures as `hinlap compare-runs` reads them: two models on the same items compare."""
    first, *others = run.figures
    write_metric(
        path,
        first.scores,
        first.interval,
        seed=run.seed,
        parts=[(figure.scores, figure.interval) for figure in others],
        ids=[item.id for item in run.items],
        references_sha256=run.sha256,
        system=f"{run.model}@{run.model_digest[:12]}",
        extra={
            "benchmark": run.benchmark.name,
            "run": run.settings,
            "groups": [item.group for item in run.items],
            "given": [asdict(given) for given in run.given],
        },
    )


@dataclass(frozen=True)
class BenchPair:
    """Figure of run ``b`` minus figure of run ``a``; p corrected by Holm for the pairs of this
    metric. verdict: what b is."""

    metric: str
    a: str
    b: str
    paired: Paired
    p: float | None
    verdict: Verdict


def compare_benches(runs: Sequence[BenchRun]) -> list[BenchPair]:
    """Every two runs of one benchmark on the same items, metric by metric. Metrics that were
    measured in different ways are left out."""
    pairs = []
    for metric in [figure.scores.name for figure in runs[0].figures]:
        alike: dict[tuple[str, ...], list[tuple[BenchRun, Scores]]] = {}
        for run in runs:
            scores = _scores_of(run, metric)
            if scores is not None:
                key = (scores.signature, *(item.id for item in run.items))
                alike.setdefault(key, []).append((run, scores))
        for members in alike.values():
            names = [run.model for run, _ in members]
            rows = [scores for _, scores in members]
            for each in compare_pairs(names, rows, seed=members[0][0].seed):
                pairs.append(BenchPair(metric, each.a, each.b, each.paired, each.p, each.verdict))
    return pairs


def _scores_of(run: BenchRun, metric: str) -> Scores | None:
    return next((f.scores for f in run.figures if f.scores.name == metric), None)


def run_as_json(run: BenchRun, how: Prompting) -> dict[str, Any]:
    """A run as the store keeps it and the page shows it; metrics as in `metric_file`."""
    return {
        "benchmark": run.benchmark.name,
        "title": run.benchmark.title,
        "about": asdict(run.benchmark.about),
        "groups_are": run.benchmark.groups,
        "model": run.model,
        "model_digest": run.model_digest,
        "settings": run.settings,
        "data_sha256": run.sha256,
        "notes": list(run.notes),
        "instruction": how.instruction,
        "shots": [asdict(shot) for shot in how.shots],
        "metrics": [
            {
                **metric_as_json(each.scores, each.interval, run.seed),
                "p_neutral": each.p_neutral,
                "neutral": run.benchmark.neutral.get(each.scores.name),
                "groups": {name: [i.value, i.low, i.high, i.n] for name, i in each.groups.items()},
            }
            for each in run.figures
        ],
        "items": [
            {
                "id": item.id,
                "group": item.group,
                "question": item.question,
                "texts": [[t.question, t.text, t.label] for t in item.texts],
                "facts": dict(item.facts),
                **{k: list(v) for k, v in asdict(given).items()},
                "why": run.benchmark.explain(item, given, values) if run.benchmark.explain else "",
            }
            for item, given, values in zip(run.items, run.given, _values(run), strict=True)
        ],
    }


def _values(run: BenchRun) -> list[dict[str, float | None]]:
    """Each item's own value of each metric."""
    scores = [figure.scores for figure in run.figures]
    return [{s.name: s.items[place] for s in scores} for place in range(len(run.items))]


def _interval(scores: Scores, seed: int) -> Interval:
    return bootstrap_interval(scores.stats, scores.reduce, seed=seed, share=scores.share)


def _p_neutral(scores: Scores, benchmark: Benchmark) -> float | None:
    neutral = benchmark.neutral.get(scores.name)
    if neutral is None:
        return None
    values = [value for value in scores.items if value is not None]
    return binomial_p(round(sum(values)), len(values), neutral)


def _by_group(scores: Scores, items: Sequence[Item], seed: int) -> dict[str, Interval]:
    members: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        if scores.items[place] is not None:
            members.setdefault(item.group, []).append(place)
    if len(members) < 2:
        return {}
    return {name: _interval(scores.subset(members[name]), seed) for name in sorted(members)}
