"""How well a model foresees a text of any length, by overlapping windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Progress
from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.metrics.scores import Scores
from hinlap.workflows.text_file import read_text_file, read_utf8

if TYPE_CHECKING:
    from hinlap.engines.local import LocalEngine

_WINDOWS_AT_ONCE = 8


def measure_perplexity(
    model: str,
    text: Path,
    *,
    field: str | None,
    window: int | None,
    stride: int | None,
    dtype: str,
    progress: Progress,
) -> list[Scores]:
    """`foresight` of a model on a file: one running text, or with ``field`` a JSONL of texts.

    A text longer than ``window`` tokens (the model's own by default) is weighed in windows that
    move on by ``stride`` tokens (a window by default: no overlap); no token is weighed
    twice, each in the first window that holds it, with what stands before it there. A token that
    opens its first window is not weighed: with stride = window one a window. The first token of a
    text follows the model's beginning-of-text token where it has one; else it is not weighed.
    Items are windows of a running text, or the rows of a JSONL. Bytes and words count the whole
    text, shared among its windows by tokens.

    Peer: transformers' recipe for the perplexity of fixed-length models, which counts the mean
    loss of each window times its tokens (one fewer than weighed in the first).
    Raises UserError for a stride over the window, InputError for a text that is empty or no
    UTF-8, ModelError when the model cannot be had.
    """
    from hinlap.engines.catalogue import model_folder
    from hinlap.engines.local import LocalEngine

    if field is None:
        texts = [_running_text(text)]
    else:
        texts = [row for (row,) in read_text_file(text, field=field).rows]
    engine = LocalEngine(model, model_folder(model, progress), dtype=dtype, progress=progress)
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
    start = engine.begin_id
    stretches: list[Foreseen] = []
    with_start = "bos" if start is not None else "none"
    encoded = engine.encode_texts(texts)
    first = 0 if start is None else 1
    windows = sum(len(list(_windows(first + len(ids), window, stride))) for ids in encoded)
    progress.start("weighing", windows)
    for whole, ids in zip(texts, encoded, strict=True):
        if first + len(ids) < 2:
            stretches.append(Foreseen(0.0, 0, 0, 0.0, 0.0))
            continue
        parts = _weigh(engine, ids, start, window, stride, progress)
        words, size = len(whole.split()), len(whole.encode("utf-8", "surrogatepass"))
        weighed = sum(tokens for _, tokens, _ in parts)
        stretched = [
            Foreseen(logprob, tokens, hits, words * tokens / weighed, size * tokens / weighed)
            for logprob, tokens, hits in parts
        ]
        stretches += [_sum(stretched)] if field is not None else stretched
    progress.finish()
    signature = (
        f"{engine.name}@{engine.digest[:12]}|{dtype}|window:{window}|stride:{stride}"
        f"|start:{with_start}|{'rows' if field is not None else 'windows'}"
    )
    scores = foresight(stretches, signature)
    empty = sum(not s.tokens for s in stretches)
    if empty:
        for each in scores:
            each.notes["texts too short to be weighed"] = empty
    return scores


def _weigh(
    engine: LocalEngine,
    ids: Sequence[int],
    start: int | None,
    window: int,
    stride: int,
    progress: Progress,
) -> list[tuple[float, int, int]]:
    """(nats, tokens, greedy hits) of each window's new tokens."""
    whole = list(ids) if start is None else [start, *ids]
    done = []
    places = list(_windows(len(whole), window, stride))
    for first in range(0, len(places), _WINDOWS_AT_ONCE):
        group = places[first : first + _WINDOWS_AT_ONCE]
        pairs = [(whole[begin:new], whole[new:end]) for begin, new, end in group]
        for weighed in engine.score_tokens(pairs):
            hits = sum(rank == 0 for rank in weighed.ranks)
            done.append((weighed.total, len(weighed.tokens), hits))
            progress.advance()
    return done


def _windows(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first new token, end) of each window over ``length`` tokens.

    >>> list(_windows(10, 4, 2))
    [(0, 1, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)]
    >>> list(_windows(10, 4, 4))
    [(0, 1, 4), (4, 5, 8), (8, 9, 10)]
    """
    done = 0
    for begin in range(0, length, stride):
        end = min(begin + window, length)
        new = max(done, begin + 1)  # a window's first token has nothing before it
        if new < end:
            yield begin, new, end
        done = end
        if end == length:
            return


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
