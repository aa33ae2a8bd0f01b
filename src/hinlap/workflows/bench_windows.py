"""A running text as a benchmark: its windows are the items, each weighed once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from hinlap.benchmarks.benchmark import Given, Item, Text
from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Progress
from hinlap.data.text_file import read_utf8
from hinlap.engines.local import LocalEngine
from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.metrics.scores import Scores
from hinlap.store.store import Store
from hinlap.workflows.bench_asking import Asked, AskedModel

WINDOW, STRIDE = 1024, 512
_AT_ONCE = 8


def foreseen_windows(
    asked: Asked, file: Path, limit: int | None, store: Store, progress: Progress
) -> tuple[list[Item], list[Given], list[Scores]]:
    """Windows of 1,024 tokens moved on by 512 (the model's own length and half of it, if that is
    shorter), with the special tokens that the tokenizer puts around a text and no others; the very
    first token is not weighed. ``limit`` counts windows. Line ends of two characters (\\r\\n) are
    made one. Token accuracy is left out: the store keeps no ranks.

    Peer: transformers' recipe for the perplexity of fixed-length models: the same windows and
    tokens. Its mean over tokens counts one too few in each window, ours does not.
    Raises UserError for who cannot weigh tokens, InputError for a text of less than two tokens.
    """
    engine = asked.engine if isinstance(asked, AskedModel) else None
    if not isinstance(engine, LocalEngine):
        raise UserError(
            "a running text is weighed token by token, which needs local weights",
            where=asked.name,
        )
    text = read_utf8(file).replace("\r\n", "\n")
    if asked.benchmark.running is not None:
        text = asked.benchmark.running(text)
    ids = engine.encode_texts([text], special=True)[0]
    if not text.strip() or len(ids) < 2:
        raise InputError("there is nothing to foresee in the text", where=str(file))
    window = min(WINDOW, engine.context_length)
    stride = min(STRIDE, window // 2)
    places = list(_windows(len(ids), window, stride))[:limit]
    pairs = [(ids[begin:new], ids[new:end]) for begin, new, end in places]
    keys = [
        hashlib.sha256(json.dumps([engine.digest, "ids", *pair]).encode()).hexdigest()
        for pair in pairs
    ]
    progress.start("weighing windows", len(pairs))
    known = store.weights(keys)
    todo = [place for place, key in enumerate(keys) if key not in known]
    progress.advance(len(keys) - len(todo))
    for first in range(0, len(todo), _AT_ONCE):
        part = todo[first : first + _AT_ONCE]
        weighed = engine.score_tokens([pairs[place] for place in part])
        rows = [(keys[p], w.total, len(w.tokens)) for p, w in zip(part, weighed, strict=True)]
        store.keep_weights(rows)
        known |= {key: (total, tokens) for key, total, tokens in rows}
        progress.advance(len(part))
    progress.finish()
    share = 1 / (len(ids) - 1)
    words, size = len(text.split()) * share, len(text.encode("utf-8")) * share
    found = [known[key] for key in keys]
    stretches = [Foreseen(nats, n, 0, words * n, size * n) for nats, n in found]
    cut = f"tok:{hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:12]}"
    scores = foresight(stretches, f"window:{window}|stride:{stride}|as-transformers|{cut}")
    items = [
        Item(str(number), texts=(Text("", engine.decode(new), f"window {number}"),))
        for number, (_, new) in enumerate(pairs)
    ]
    given = [Given((nats,), (n,)) for nats, n in found]
    return items, given, [each for each in scores if each.name != "token_accuracy"]


def _windows(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first token that is new, end) of each window. `perplexity.windows` differs: there
    each window reads as many tokens as the model can, one more, and the last is moved back.

    >>> list(_windows(10, 4, 2))
    [(0, 1, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)]
    >>> list(_windows(9, 4, 2))
    [(0, 1, 4), (2, 4, 6), (4, 6, 8), (6, 8, 9)]
    >>> list(_windows(3, 4, 2))
    [(0, 1, 3)]
    """
    new = 1
    for begin in range(0, length, stride):
        end = min(begin + window, length)
        yield begin, new, end
        if end == length:
            return
        new = end
