"""Scoring a file of outputs by one metric: the table of the metrics, and what each may be told."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Progress, Silent
from hinlap.data.text_file import STDIN, TextFile, read_text_file
from hinlap.metrics.rouge import VARIANTS, Variant
from hinlap.metrics.scores import Scores
from hinlap.metrics.squad import SquadScores, Version
from hinlap.stats.bootstrap import Interval, bootstrap_interval
from hinlap.workflows.metric_file import write_metric

# what C tokenizers stumble over and nobody sees; line ends and tabs are no such thing
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Request:
    """What a user named; None or () where they named nothing, so that the metric's own holds."""

    predictions: Path | None = None
    references: tuple[Path, ...] = ()
    field: str | None = None
    prediction_field: str | None = None
    reference_field: str | None = None
    ids: str | None = None
    clusters: str | None = None
    stem: bool | None = None
    segmentation: str | None = None
    tokenize: str | None = None
    lowercase: bool | None = None
    no_answer: Path | None = None
    threshold: float | None = None
    model: str | None = None
    text: Path | None = None
    window: int | None = None
    stride: int | None = None
    dtype: str | None = None

    def given(self) -> list[str]:
        return [f.name for f in fields(self) if getattr(self, f.name) not in (None, ())]


@dataclass(frozen=True)
class Found:
    """scores: the metric, then more of the same items. system: the model that was measured, where
    one was. figures: more for the file's top level."""

    scores: Sequence[Scores]
    ids: Sequence[str] | None = None
    clusters: Sequence[str] | None = None
    references_sha256: str | None = None
    system: str | None = None
    figures: Mapping[str, float | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What a metric found, each of its scores with its interval."""

    found: Found
    intervals: Sequence[Interval]
    seed: int

    def write(self, path: Path) -> None:
        """As ``metric_file`` has it. Raises InputError when there is no such folder."""
        first, *parts = zip(self.found.scores, self.intervals, strict=True)
        write_metric(
            path,
            *first,
            seed=self.seed,
            parts=parts,
            ids=self.found.ids,
            clusters=self.found.clusters,
            references_sha256=self.found.references_sha256,
            system=self.found.system,
            extra=self.found.figures,
        )


@dataclass(frozen=True)
class FileMetric:
    """sees: what it looks at, in a line. takes: the options it knows beside its ``needs``."""

    name: str
    score: Callable[[Request, Progress], Found]
    sees: str
    range: str
    higher_is_better: bool
    peer: str
    takes: tuple[str, ...]
    needs: tuple[str, ...] = ("predictions", "references")

    @property
    def knows(self) -> tuple[str, ...]:
        return (*self.needs, *self.takes)


def score_files(
    name: str,
    request: Request,
    *,
    seed: int = 0,
    interval: bool = True,
    progress: Progress | None = None,
) -> Scored:
    """The metric of that name on the files of the request, with 95% intervals.

    Raises UserError for an unknown metric, an option that it does not know or one that it needs;
    InputError, with file and line, for what cannot be scored.
    """
    metric = metric_called(name)
    _check(metric, request)
    found = metric.score(request, progress or Silent())
    intervals = []
    for scores in found.scores:
        if interval:
            drawn = bootstrap_interval(
                scores.stats, scores.reduce, seed=seed, share=scores.share, clusters=found.clusters
            )
        else:
            drawn = Interval(scores.value, None, None, scores.n)
        intervals.append(drawn)
    return Scored(found, intervals, seed)


def metric_called(name: str) -> FileMetric:
    """By its name in any case. Raises UserError, with the nearest names."""
    known = {metric.name.casefold(): metric for metric in METRICS}
    wanted = name.casefold()
    for spelled in (wanted, wanted.replace("-", "_")):
        if spelled in known:
            return known[spelled]
    near = [known[n].name for n in difflib.get_close_matches(wanted, known, n=3)]
    raise UserError(
        f"no metric {name!r}",
        hint=f"did you mean {' or '.join(near)}? hinlap metrics list tells all"
        if near
        else f"they are: {', '.join(metric.name for metric in METRICS)}",
    )


def _check(metric: FileMetric, request: Request) -> None:
    given = request.given()
    for option in given:
        if option not in metric.knows:
            others = ", ".join(other.name for other in METRICS if option in other.knows)
            raise UserError(
                f"{metric.name} has no option {_flag(option)}, which is for {others}",
                hint=f"{metric.name} knows {', '.join(map(_flag, metric.knows))}",
            )
    lacking = [option for option in metric.needs if option not in given]
    if lacking:
        raise UserError(
            f"{metric.name} needs {' and '.join(map(_flag, lacking))}",
            hint=f"hinlap metrics {metric.name} "
            + " ".join(
                f"{_flag(option)} {_OPERANDS.get(option, 'FILE')}" for option in metric.needs
            ),
        )


_OPERANDS = {"model": "MODEL"}


def _flag(option: str) -> str:
    """
    >>> _flag("prediction_field"), _flag("stem")
    ('--prediction-field', '--stem')
    """
    return "--" + option.replace("_", "-")


# texts


@dataclass(frozen=True)
class _Items:
    """Outputs and references of the same items, in the order of the first references."""

    predictions: Sequence[str]
    references: Sequence[Sequence[str]]
    ids: Sequence[str] | None
    clusters: Sequence[str] | None


Compute = Callable[[Sequence[str], Sequence[Sequence[str]], Request], Sequence[Scores]]


def _of_texts(compute: Compute, request: Request, _: Progress) -> Found:
    items = _read_items(request)
    scores = compute(items.predictions, items.references, request)
    notes = _unseen(items)
    for each in scores:
        each.notes.update(notes)
    return Found(scores, items.ids, items.clusters, _digest(items.references))


def _read_items(request: Request) -> _Items:
    assert request.predictions is not None
    if [request.predictions, *request.references].count(STDIN) > 1:
        raise UserError("standard input can be read once only", hint="name a file in one place")
    read = partial(read_text_file, ids=request.ids, clusters=request.clusters)
    flag = "--reference-field" if request.reference_field else "--field"
    wanted = [
        read(path, field=request.reference_field or request.field, several=True, option=flag)
        for path in request.references
    ]
    flag = "--prediction-field" if request.prediction_field else "--field"
    said = read(request.predictions, field=request.prediction_field or request.field, option=flag)
    first = wanted[0]
    for name, key in ((request.ids, "ids"), (request.clusters, "clusters")):
        if name is not None and not any(getattr(file, key) for file in (said, *wanted)):
            raise InputError(
                f"no row has a field {name!r}",
                where=f"--{key}",
                hint="it is for JSONL: name a field of predictions or references",
            )
    said, *others = (_in_order_of(first, file) for file in (said, *wanted[1:]))
    files = (first, said, *others)
    return _Items(
        [row[0] for row in said.rows],
        [
            [text for row in rows for text in row]
            for rows in zip(*_rows(first, others), strict=True)
        ],
        next((file.ids for file in files if file.ids), None),
        next((file.clusters for file in files if file.clusters), None),
    )


def _rows(first: TextFile, others: Iterable[TextFile]) -> Iterable[Sequence[Sequence[str]]]:
    return [first.rows, *(file.rows for file in others)]


def _in_order_of(first: TextFile, other: TextFile) -> TextFile:
    """The other's items matched to the first's, by id where both have them. Raises InputError."""
    if first.ids is None or other.ids is None:
        if len(first.rows) != len(other.rows):
            long, short = sorted((first, other), key=lambda file: len(file.rows), reverse=True)
            line = len(short.rows) + 1
            raise InputError(
                f"{other.path} has {len(other.rows):,} items and {first.path} has "
                f"{len(first.rows):,}: nothing goes with line {line} of {long.path}",
                where=f"{short.path}:{line}",
                hint="one line for each item, in the same order; an empty output is an empty line",
            )
        return other
    place = {name: i for i, name in enumerate(other.ids)}
    for one, two in ((first, other), (other, first)):
        known = set(two.ids or ())
        lacking = [(i, name) for i, name in enumerate(one.ids or ()) if name not in known]
        if lacking:
            row, name = lacking[0]
            raise InputError(
                f"{len(lacking):,} of its {len(one.rows):,} ids are not in {two.path}, such as "
                f"{name!r}",
                where=f"{one.path}:{one.lines[row]}",
                hint="give both files the same items",
            )
    order = [place[name] for name in first.ids]
    return TextFile(
        other.path,
        tuple(other.rows[i] for i in order),
        tuple(other.lines[i] for i in order),
        first.ids,
        None if other.clusters is None else tuple(other.clusters[i] for i in order),
    )


def _unseen(items: _Items) -> dict[str, int]:
    """How many items hold characters that nobody sees, and tokenizers may trip over."""
    texts = [
        (prediction, *own)
        for prediction, own in zip(items.predictions, items.references, strict=True)
    ]
    kinds = {
        "items with control characters": _CONTROL,
        "items with lone surrogates": _SURROGATE,
    }
    found = {
        kind: sum(any(map(pattern.search, own)) for own in texts) for kind, pattern in kinds.items()
    }
    return {kind: n for kind, n in found.items() if n}


def _digest(content: Any) -> str:
    # JSON in ASCII: a lone surrogate has no UTF-8
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def _bleu(p: Sequence[str], r: Sequence[Sequence[str]], request: Request) -> Sequence[Scores]:
    from hinlap.metrics.bleu import bleu

    return [bleu(p, r, tokenize=request.tokenize or "auto", lowercase=bool(request.lowercase))]


def _chrf(
    words: int, p: Sequence[str], r: Sequence[Sequence[str]], request: Request
) -> Sequence[Scores]:
    from hinlap.metrics.chrf import chrf

    return [chrf(p, r, word_order=words, lowercase=bool(request.lowercase))]


def _ter(p: Sequence[str], r: Sequence[Sequence[str]], request: Request) -> Sequence[Scores]:
    from hinlap.metrics.ter import ter

    return [ter(p, r, segmentation=request.segmentation or "auto")]  # type: ignore[arg-type]


def _rouges(
    variants: Sequence[Variant], p: Sequence[str], r: Sequence[Sequence[str]], request: Request
) -> Sequence[Scores]:
    from hinlap.metrics.rouge import rouges

    stem = request.stem is not False
    found = rouges(variants, p, r, stem=stem, segmentation=request.segmentation or "auto")
    return [found[variant] for variant in variants]


def _exact_match(
    p: Sequence[str], r: Sequence[Sequence[str]], request: Request
) -> Sequence[Scores]:
    from hinlap.metrics.match import exact_match

    return [exact_match(p, r)]


def _token_f1(p: Sequence[str], r: Sequence[Sequence[str]], request: Request) -> Sequence[Scores]:
    from hinlap.metrics.match import token_f1

    return [token_f1(p, r, segmentation=request.segmentation or "auto")]


# questions and answers


def _squad(version: Version | None, request: Request, _: Progress) -> Found:
    from hinlap.workflows.score_squad import score_squad

    assert request.predictions is not None
    if len(request.references) > 1:
        raise UserError(
            "squad reads one file of questions", hint="it may hold several answers to each"
        )
    if request.threshold is not None and request.no_answer is None:
        raise UserError(
            "--threshold is for no-answer probabilities", hint="name their file by --no-answer"
        )
    scored = score_squad(
        request.predictions,
        request.references[0],
        version=version,
        no_answer=request.no_answer,
        threshold=1.0 if request.threshold is None else request.threshold,
        segmentation=request.segmentation or "auto",
    )
    if scored.unknown:
        for scores in (scored.f1, scored.exact):
            scores.notes["predictions of no known question"] = len(scored.unknown)
    questions = scored.questions
    return Found(
        (scored.f1, scored.exact),
        [q.id for q in questions],
        [q.article for q in questions],
        _digest([[q.id, *q.answers] for q in questions]),
        figures=_squad_figures(scored),
    )


def _squad_figures(scored: SquadScores) -> dict[str, float | int | None]:
    return {
        **scored.figures(),
        "missing_predictions": len(scored.missing),
        "unknown_predictions": len(scored.unknown),
    }


# models


def _perplexity(request: Request, progress: Progress) -> Found:
    from hinlap.workflows.perplexity import measure_perplexity

    assert request.model is not None
    assert request.text is not None
    weighed = measure_perplexity(
        request.model,
        request.text,
        field=request.field,
        window=request.window,
        stride=request.stride,
        dtype=request.dtype or "float32",
        progress=progress,
    )
    ordered = sorted(weighed.scores, key=lambda each: each.name != "perplexity")
    return Found(ordered, references_sha256=_digest(weighed.texts), system=weighed.system)


def _texts(
    name: str,
    compute: Compute,
    sees: str,
    range: str,
    peer: str,
    *takes: str,
    higher_is_better: bool = True,
) -> FileMetric:
    files = ("field", "prediction_field", "reference_field", "ids", "clusters")
    return FileMetric(
        name, partial(_of_texts, compute), sees, range, higher_is_better, peer, (*files, *takes)
    )


_ROUGE_SEES = {
    "rouge1": "words shared with the reference",
    "rouge2": "word pairs shared with the reference",
    "rougeL": "longest common subsequence of words",
    "rougeLsum": "the same sentence by sentence, one a line",
}
_ROUGE = ("[0, 1]", "rouge-score 0.1.2", "stem", "segmentation")
_SQUAD = ("[0, 100]", True, "the official script", ("segmentation", "no_answer", "threshold"))

METRICS: tuple[FileMetric, ...] = (
    _texts(
        "bleu",
        _bleu,
        "runs of 1 to 4 words found in a reference, and length",
        "[0, 100]",
        "sacrebleu 2",
        "tokenize",
        "lowercase",
    ),
    _texts(
        "chrf",
        partial(_chrf, 0),
        "runs of 1 to 6 characters shared with a reference",
        "[0, 100]",
        "sacrebleu 2",
        "lowercase",
    ),
    _texts(
        "chrf++",
        partial(_chrf, 2),
        "the same, and words and word pairs",
        "[0, 100]",
        "sacrebleu 2",
        "lowercase",
    ),
    _texts(
        "ter",
        _ter,
        "edits that would make it the reference, per word",
        "[0, inf)",
        "sacrebleu 2",
        "segmentation",
        higher_is_better=False,
    ),
    *(
        _texts(variant, partial(_rouges, (variant,)), _ROUGE_SEES[variant], *_ROUGE)
        for variant in VARIANTS
    ),
    _texts("rouge", partial(_rouges, VARIANTS), "the four above in one pass", *_ROUGE),
    _texts(
        "exact_match",
        _exact_match,
        "whether it is a reference, case and space aside",
        "[0, 1]",
        "str.casefold in NFC",
    ),
    _texts(
        "token_f1",
        _token_f1,
        "words shared with a reference, order aside",
        "[0, 1]",
        "SQuAD's evaluate-v2.0.py",
        "segmentation",
    ),
    FileMetric("squad", partial(_squad, None), "answers to questions, v1.1 or v2.0", *_SQUAD),
    FileMetric("squad-v2", partial(_squad, "2.0"), "the same, as v2.0 in any case", *_SQUAD),
    FileMetric(
        "perplexity",
        _perplexity,
        "how well a model foresees a text: also loss, accuracy, per word and byte",
        "[1, inf)",
        False,
        "transformers, lm-evaluation-harness",
        ("field", "window", "stride", "dtype"),
        ("model", "text"),
    ),
)
