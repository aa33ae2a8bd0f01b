"""Which base model to take: what was measured of each, the rule that ranks them, the JSON form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hinlap.core.errors import HinlapError
from hinlap.data.licences import licence_of
from hinlap.stats.paired import compare_paired, holm, items_to_decide, verdict
from hinlap.workflows.advise_variant import Machine
from hinlap.workflows.comparison import Figure, Latency, PairResult
from hinlap.workflows.measuring import Measured
from hinlap.workflows.numbers import short

BITS_MARGIN = 0.01
"""Bits per byte so close to the least of a group count as equal: another precision of the same
weights moves them by less."""

RULE = (
    "Best first by the metric that decides. Those that a paired test cannot tell from the best "
    "(p under 0.05, Holm over the tests against it, and an interval without 0) are tied with it; "
    "then the same among the rest. Ties go to fewer bits per byte of the reference answers, and "
    f"within {BITS_MARGIN:.0%} of these to the faster. Left out with a reason: what does not fit "
    "memory or window, what failed, what breaks a limit of decide."
)

By = Literal["quality", "bits", "speed", "order"]


@dataclass(frozen=True)
class Standing:
    """What the rule looks at; None where it is unknown.

    quality: by the metric that decides. bits: per byte of the reference answers, lower is better.
    seconds: of an item asked singly.
    """

    name: str
    quality: Measured | None
    bits: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """by: what set it below the one above it; for the first, what set it above the next.
    best: the best by quality of those it is tied with; itself where it is that."""

    name: str
    by: By
    best: str


@dataclass(frozen=True)
class Ranking:
    """places: best first. tests: each best against those it was tested against."""

    places: tuple[Place, ...]
    tests: tuple[PairResult, ...]


def rank(standings: Sequence[Standing], metric: str, seed: int) -> Ranking:
    """By `RULE`; what the rule cannot tell apart stays in the order given."""
    places: list[Place] = []
    tests: list[PairResult] = []
    for tier, made in _by_quality(standings, metric, seed):
        tests += made
        by: By = "quality"
        for near in _by_bits(tier):
            for standing in sorted(near, key=_slowness):
                places.append(Place(standing.name, by, tier[0].name))
                by = "speed"
            by = "bits"
    known = {standing.name: standing for standing in standings}
    for index, place in enumerate(places):
        above = known[places[index - 1].name] if index else None
        if place.by == "speed" and above and above.seconds == known[place.name].seconds:
            places[index] = Place(place.name, "order", place.best)
    if len(places) > 1:
        places[0] = Place(places[0].name, places[1].by, places[0].best)
    return Ranking(tuple(places), tuple(tests))


def _slowness(standing: Standing) -> tuple[bool, float]:
    return standing.seconds is None, standing.seconds or 0.0


def _by_quality(
    standings: Sequence[Standing], metric: str, seed: int
) -> Iterator[tuple[list[Standing], list[PairResult]]]:
    """Tiers, best first: the best of what is left and all that cannot be told from it."""
    left = [
        (s, s.quality, value)
        for s in standings
        if s.quality is not None and (value := s.quality.scores.value) is not None
    ]
    undefined = [s for s in standings if s.name not in {known.name for known, *_ in left}]
    while left:
        higher = left[0][1].scores.higher_is_better
        best, of_best, _ = (max if higher else min)(left, key=lambda each: each[2])
        others = [(s, quality) for s, quality, _ in left if s is not best]
        tests = _tests(best.name, of_best, others, metric, seed)
        worse = {test.b for test in tests if test.verdict == "better"}
        yield [best, *(s for s, _ in others if s.name not in worse)], tests
        left = [each for each in left if each[0].name in worse]
    if undefined:
        yield undefined, []


def _tests(
    best: str,
    of_best: Measured,
    others: Sequence[tuple[Standing, Measured]],
    metric: str,
    seed: int,
) -> list[PairResult]:
    """The best against each other one on the items both have."""
    paired = []
    for _, quality in others:
        place = {identity: index for index, identity in enumerate(quality.ids)}
        common = [(i, place[x]) for i, x in enumerate(of_best.ids) if x in place]
        paired.append(
            compare_paired(
                of_best.scores.subset([i for i, _ in common]).stats,
                quality.scores.subset([j for _, j in common]).stats,
                of_best.scores.reduce,
                seed=seed,
            )
        )
    corrected = iter(holm([each.p for each in paired if each.p is not None]))
    tests = []
    for (other, _), each in zip(others, paired, strict=True):
        p = next(corrected) if each.p is not None else None
        stands = verdict(each, p, higher_is_better=of_best.scores.higher_is_better)
        needed = items_to_decide(each, len(paired)) if stands == "not decisive" else None
        if needed is not None:
            needed = max(needed, each.n + 1)
        tests.append(PairResult(best, other.name, metric, each, p, stands, needed))
    return tests


def _by_bits(standings: Sequence[Standing]) -> Iterator[list[Standing]]:
    """Groups, fewest bits first: those within the margin of the fewest left."""
    left = [(s, s.bits) for s in standings if s.bits is not None]
    while left:
        bar = min(bits for _, bits in left) * (1 + BITS_MARGIN)
        yield [s for s, bits in left if bits <= bar]
        left = [(s, bits) for s, bits in left if bits > bar]
    unknown = [s for s in standings if s.bits is None]
    if unknown:
        yield unknown


@dataclass(frozen=True)
class Advised:
    """One model in one precision, asked in one way.

    model, kind, licence: as named; base, instruct or ""; "" where it is not known.
    parameters:  count of its weights.
    quality:     every declared metric by its key.
    bits_per_byte, nats_per_token: of the reference answers given the prompts; None without any.
    latency:     of items asked singly.      tokens_per_second: written, over the time of writing.
    over_window: of how many items a prompt with its answer is over the window.
    in_language, told: outputs in the app's language, of those whose language can be told.
    excluded:    why it is not ranked; "" where it is.
    """

    name: str
    model: str
    dtype: str
    route: str
    kind: str
    licence: str
    parameters: int
    machine: Machine
    quality: Mapping[str, Figure]
    bits_per_byte: Figure | None
    nats_per_token: Figure | None
    latency: Latency
    tokens_per_second: float | None
    counts: Mapping[str, int]
    in_language: int
    told: int
    excluded: str
    notes: tuple[str, ...]

    @property
    def longest(self) -> int:
        return self.machine.fits[self.route].longest

    @property
    def over_window(self) -> int:
        return len(self.machine.fits[self.route].over)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": self.model,
            "dtype": self.dtype,
            "route": self.route,
            "kind": self.kind,
            "chat_template": self.machine.chat_template,
            "parameters": self.parameters,
            "licence": self.licence,
            "licence_terms": licence_words(self.licence),
            "quality": {key: figure.as_json() for key, figure in self.quality.items()},
            "bits_per_byte": self.bits_per_byte.as_json() if self.bits_per_byte else None,
            "nats_per_token": self.nats_per_token.as_json() if self.nats_per_token else None,
            "seconds_per_item": {
                "mean": self.latency.mean,
                "p50": self.latency.p50,
                "p95": self.latency.p95,
                "n": self.latency.n,
            },
            "output_tokens_per_second": self.tokens_per_second,
            "load_seconds": self.machine.load_seconds,
            "peak_memory_bytes": self.machine.peak_memory_bytes,
            "accelerator_memory_bytes": self.machine.accelerator_memory_bytes,
            "machine": self.machine.words,
            "window": self.machine.window,
            "longest_prompt_tokens": self.longest,
            "items_over_window": self.over_window,
            "counts": dict(self.counts),
            "language": {"in_language": self.in_language, "told": self.told},
            "excluded": self.excluded or None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A model, or one precision of it, that was not measured, and why. None: not known."""

    model: str
    reason: str
    parameters: float | None = None
    window: int | None = None
    licence: str = ""
    memory_bytes: float | None = None
    fits: bool | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "reason": self.reason,
            "parameters": self.parameters,
            "window": self.window,
            "licence": self.licence,
            "memory_bytes": self.memory_bytes,
            "fits": self.fits,
        }


@dataclass(frozen=True)
class Advice:
    """All of it. measured: ranked ones first, best first. failed: could not be measured. not_here:
    catalogue models that would have to be fetched. by: the metric that decides, if one does.
    errors: why models failed; a door's exit code is the first one's."""

    app: str
    app_digest: str
    language: str
    version: str
    made_at: str
    items: int
    by: str | None
    measured: Sequence[Advised]
    reasons: Sequence[str]
    tests: Sequence[PairResult]
    failed: Sequence[LeftOut]
    not_here: Sequence[LeftOut]
    errors: Sequence[HinlapError]

    @property
    def ranked(self) -> list[Advised]:
        return [each for each in self.measured if not each.excluded]

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {
            "app": self.app,
            "app_digest": self.app_digest,
            "language": self.language,
            "hinlap_version": self.version,
            "made_at": self.made_at,
            "items": self.items,
            "by": self.by,
            "rule": RULE,
            "take": self.ranked[0].name if self.ranked else None,
            "ranking": [each.name for each in self.ranked],
            "reasons": list(self.reasons),
            "measured": [each.as_json() for each in self.measured],
            "tests": [test.as_json() for test in self.tests],
            "failed": [each.as_json() for each in self.failed],
            "not_here": [each.as_json() for each in self.not_here],
        }


def place_reasons(ranking: Ranking, standings: Sequence[Standing]) -> list[str]:
    """A sentence for each place: what set it below the one above it."""
    known = {standing.name: standing for standing in standings}
    tests = {(test.a, test.b): test for test in ranking.tests}
    reasons = []
    for above, place in zip([None, *ranking.places], ranking.places, strict=False):
        reasons.append(f"{place.name}: {_why(above, place, known, tests)}")
    return reasons


_FIRST_OF_TIED: dict[By, str] = {
    "bits": "of those tied the fewest bits per byte",
    "speed": "of those tied the fastest",
    "order": "of those tied the one named first",
}


def _why(
    above: Place | None,
    place: Place,
    known: Mapping[str, Standing],
    tests: Mapping[tuple[str, str], PairResult],
) -> str:
    own = known[place.name]
    tied = ""
    if place.best != place.name and (test := tests.get((place.best, place.name))):
        tied = f"a tie with {place.best} in quality{_needed(test)}; "
    if above is None:
        if len(known) == 1:
            return "the only one that could be ranked"
        if place.by == "quality":
            return "the best by quality, and decisively so"
        if not tied and own.quality is not None:
            tied = "the best by quality, though a test cannot tell it from all others; "
        return tied + _FIRST_OF_TIED[place.by]
    upper = known[above.name]
    match place.by:
        case "quality":
            test = tests.get((above.best, place.name))
            if test is None or test.paired.difference is None:
                return f"its quality is undefined, that of {above.best} is not"
            return (
                f"worse than {above.best} by {short(abs(test.paired.difference))} "
                f"(p {short(test.p)} by Holm)"
            )
        case "bits":
            return f"{tied}more bits per byte than {above.name}" + _against(own.bits, upper.bits)
        case "speed":
            return f"{tied}slower than {above.name}" + _against(own.seconds, upper.seconds, " s")
    return f"{tied}as {above.name}, named later"


def _needed(test: PairResult) -> str:
    if test.items_needed is None:
        return ""
    return f" (about {test.items_needed:,} items would tell)"


def _against(own: float | None, other: float | None, unit: str = "") -> str:
    return f": {short(own)}{unit} against {short(other)}{unit}"


def licence_words(text: str) -> str:
    """What a licence lets one do with the model, in a few words, by the table of licences.

    >>> licence_words("apache-2.0"), licence_words("cc-by-nc-4.0"), licence_words("gemma")
    ('commercial use; name the authors', 'no commercial use; name the authors', 'terms not known')
    """
    licence = licence_of(text) if text else None
    if licence is None:
        return "terms not known"
    words = ["no commercial use" if licence.non_commercial else "commercial use"]
    if licence.attribution:
        words.append("name the authors")
    if licence.share_alike:
        words.append("what is made of it under the same licence")
    if licence.no_derivatives:
        words.append("no changed version (no tuning) may be passed on")
    return "; ".join(words)
