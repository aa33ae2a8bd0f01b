"""How well a model foresees a text of any length, by overlapping windows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Progress
from hinlap.data.text_file import read_text_file, read_utf8
from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.metrics.scores import Scores

if TYPE_CHECKING:
    from hinlap.engines.local import LocalEngine

_WINDOWS_AT_ONCE = 8


@dataclass(frozen=True)
class Weighed:
    """texts: as weighed. system: name, digest and dtype of the model."""

    scores: Sequence[Scores]
    texts: Sequence[str]
    system: str


def measure_perplexity(
    model: str,
    text: Path,
    *,
    field: str | None,
    window: int | None,
    stride: int | None,
    dtype: str,
    progress: Progress,
) -> Weighed:
    """`foresight` of a model on a file: one running text, or with ``field`` a JSONL of texts.

    Every token is weighed once. The first ``window`` tokens (the model's own by default) follow
    its beginning-of-text token, or its ending token where it has none; then windows move on by
    ``stride`` tokens (a window by default), whose new tokens each follow at least
    ``window - stride + 1`` others: a window's first token always has one before it.
    Items are windows of a running text, or the rows of a JSONL. Bytes and words count the whole
    text, shared among its windows by tokens.
    Signatures name the tokens (``tok``: of their ids) where figures or items count them: models
    that cut the texts otherwise are compared by words and bytes of a JSONL's rows only.

    Peer: lm-evaluation-harness's loglikelihood_rolling, whose context_len is
    window - stride + 1. transformers' recipe for fixed-length models does not weigh the first
    token of a text, nor of each window where windows stand side by side.
    Raises UserError for a stride over the window, InputError for a text that is empty or no
    UTF-8, ModelError when the model cannot be had.
    """
    from hinlap.engines.pool import open_local

    if field is None:
        texts = [_running_text(text)]
    else:
        texts = [row for (row,) in read_text_file(text, field=field).rows]
    engine = open_local(model, progress, dtype=dtype)
    window = engine.context_length if window is None else window
    stride = window if stride is None else stride
    if not 1 <= stride <= window or window < 2:
        raise UserError(
            f"a window of {window} tokens cannot move by {stride}",
            hint="--window 2 or more, --stride between 1 and the window",
        )
    if window > engine.context_length:
        raise UserError(
            f"a window of {window:,} tokens is more than the model's {engine.context_length:,}",
            hint="leave --window out",
        )
    said = [whole for whole in texts if whole.strip()]
    encoded = [[engine.first_id, *ids] for ids in engine.encode_texts(said)]
    progress.start("weighing", sum(len(list(windows(len(i), window, stride))) for i in encoded))
    left = iter(encoded)
    stretches: list[Foreseen] = []
    for whole in texts:
        if not whole.strip():
            stretches.append(Foreseen(0.0, 0, 0, 0.0, 0.0))
            continue
        ids = next(left)
        parts = _weigh(engine, ids, window, stride, progress)
        words, size = len(whole.split()), len(whole.encode("utf-8", "surrogatepass"))
        share = 1 / (len(ids) - 1)
        stretched = [
            Foreseen(logprob, tokens, hits, words * tokens * share, size * tokens * share)
            for logprob, tokens, hits in parts
        ]
        stretches += [_sum(stretched)] if field is not None else stretched
    progress.finish()
    cut = f"tok:{hashlib.sha256(json.dumps(encoded).encode()).hexdigest()[:12]}"
    ways = f"window:{window}|stride:{stride}|"
    if field is None:
        scores = foresight(stretches, f"{ways}windows|{cut}")
    else:
        scores = foresight(stretches, f"{ways}rows", per_token=cut)
    if len(said) < len(texts):
        for each in scores:
            each.notes["empty texts"] = len(texts) - len(said)
    return Weighed(scores, texts, f"{engine.name}@{engine.digest[:12]}|{dtype}")


def _weigh(
    engine: LocalEngine, ids: Sequence[int], window: int, stride: int, progress: Progress
) -> list[tuple[float, int, int]]:
    """(nats, tokens, greedy hits) of each window's new tokens."""
    done = []
    places = list(windows(len(ids), window, stride))
    for first in range(0, len(places), _WINDOWS_AT_ONCE):
        group = places[first : first + _WINDOWS_AT_ONCE]
        pairs = [(ids[begin:new], ids[new:end]) for begin, new, end in group]
        for weighed in engine.score_tokens(pairs):
            hits = sum(rank == 0 for rank in weighed.ranks)
            done.append((weighed.total, len(weighed.tokens), hits))
            progress.advance()
    return done


def windows(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first new token, end) of each window over ``length`` tokens, the first of which is
    given. The last token of a window is foreseen and never read, so it spans one token more.

    >>> list(windows(10, 4, 2))
    [(0, 1, 5), (2, 5, 7), (4, 7, 9), (5, 9, 10)]
    >>> list(windows(10, 4, 4))
    [(0, 1, 5), (4, 5, 9), (5, 9, 10)]
    """
    new, end = 1, min(window + 1, length)
    while new < end:
        yield max(0, end - window - 1), new, end
        new, end = end, min(end + stride, length)


def _sum(parts: Sequence[Foreseen]) -> Foreseen:
    return Foreseen(
        sum(p.logprob for p in parts),
        sum(p.tokens for p in parts),
        sum(p.hits for p in parts),
        sum(p.words for p in parts),
        sum(p.bytes for p in parts),
    )


def _running_text(path: Path) -> str:
    text = read_utf8(path)
    if not text.strip():
        raise InputError("the text is empty", where=str(path))
    return text
