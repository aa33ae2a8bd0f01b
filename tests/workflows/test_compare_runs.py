"""Files of scores: what is written is read back, what cannot be compared is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hinlap.core.errors import InputError
from hinlap.metrics.bleu import bleu
from hinlap.metrics.chrf import chrf
from hinlap.metrics.match import exact_match, token_f1
from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.metrics.rouge import rouge
from hinlap.metrics.scores import Scores, mean_scores
from hinlap.metrics.squad import Question, squad
from hinlap.metrics.ter import ter
from hinlap.stats.bootstrap import bootstrap_interval
from hinlap.workflows.compare_runs import compare_runs, write_comparison
from hinlap.workflows.metric_file import read_metric, write_metric

PREDICTIONS = ["the cat sat on the mat", "a dog ran far away today", "", "b"]
REFERENCES = [["the cat sat on a mat"], ["the dog ran far away"], ["x y z w v"], ["b"]]


def squad_scores() -> tuple[Scores, Scores]:
    questions = [Question(str(i), tuple(own)) for i, own in enumerate(REFERENCES)]
    predictions = dict(zip("0123", PREDICTIONS, strict=True))
    found = squad(questions, predictions, version="2.0")
    return found.exact, found.f1


def write(path: Path, scores: Scores, **more: Any) -> Path:
    interval = bootstrap_interval(scores.stats, scores.reduce, seed=0, share=scores.share)
    write_metric(path, scores, interval, seed=0, **more)
    return path


@pytest.mark.parametrize(
    "scores",
    [
        bleu(PREDICTIONS, REFERENCES),
        bleu(PREDICTIONS, REFERENCES, smooth="floor", max_order=2),
        chrf(PREDICTIONS, REFERENCES),
        chrf(PREDICTIONS, REFERENCES, word_order=2, beta=1),
        ter(PREDICTIONS, REFERENCES),
        rouge("rougeL", PREDICTIONS, REFERENCES, stem=True),
        rouge("rouge1", PREDICTIONS, [*REFERENCES[:3], ["!"]], stem=False),  # an undefined item
        token_f1(PREDICTIONS, REFERENCES),
        exact_match(PREDICTIONS, REFERENCES),
        *squad_scores(),
    ],
    ids=lambda scores: scores.signature[:40],
)
def test_what_is_written_is_read_back_resampled_alike(scores: Scores, tmp_path: Path) -> None:
    found = read_metric(write(tmp_path / "a.json", scores)).scores[scores.name]
    assert (found.name, found.signature, found.n) == (scores.name, scores.signature, scores.n)
    assert (found.higher_is_better, found.share) == (scores.higher_is_better, scores.share)
    assert found.value == scores.value
    drawn = [0, 0, 1, 3]
    assert found.reduce(found.stats[drawn].sum(axis=0)) == pytest.approx(
        scores.reduce(scores.stats[drawn].sum(axis=0)), rel=1e-12
    )


def test_the_file_has_the_promised_keys(tmp_path: Path) -> None:
    scores = mean_scores("m", [0.0, 0.5, 1.0], "m|v1")
    file = write(tmp_path / "a.json", scores, ids=["x", "y", "\ud800"], extra={"exact_match": 3.0})
    content = json.loads(file.read_text("utf-8"))
    assert content.keys() >= {"metric", "signature", "value", "low", "high", "n", "items"}
    assert (content["metric"], content["value"], content["n"]) == ("m", 0.5, 3)
    assert content["items"] == [0.0, 0.5, 1.0]
    assert (content["exact_match"], content["interval"]["seed"]) == (3.0, 0)
    assert "stats" not in content
    assert read_metric(file).ids == ("x", "y", "\ud800")


def test_parts_are_compared_too(tmp_path: Path) -> None:
    exact, f1 = squad_scores()
    interval = bootstrap_interval(exact.stats, exact.reduce, seed=0, share=True)
    file = write(tmp_path / "a.json", f1, parts=[(exact, interval)])
    assert list(read_metric(file).scores) == ["squad_f1", "squad_exact_match"]
    assert [m.metric for m in compare_runs([file, file]).metrics] == list(read_metric(file).scores)


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    scores = mean_scores("m", [0.0, 0.5], "m|v1")
    for more, message in (
        ({"extra": {"items": 3}}, "not for other use: items"),
        ({"ids": ["x"]}, "2 items have 1 ids"),
        ({"clusters": ["x"]}, "2 items have 1 clusters"),
    ):
        with pytest.raises(ValueError, match=message):
            write(tmp_path / "a.json", scores, **more)
    with pytest.raises(InputError, match="no such folder"):
        write(tmp_path / "no" / "a.json", scores)


# -- comparing

Files = Callable[..., list[Path]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """One file of mean scores for each list of values: files([..], [..], ids=..., name=...)."""

    def make(*runs: Sequence[float], better: bool = True, **more: Any) -> list[Path]:
        found = []
        for letter, values in zip("abcd", runs, strict=False):
            scores = mean_scores("m", list(values), "m|v1", higher_is_better=better)
            found.append(write(tmp_path / f"{letter}.json", scores, **more))
        return found

    return make


RNG = np.random.default_rng(0)
BASE = RNG.normal(size=60)
BETTER = BASE + 0.5 + RNG.normal(0, 0.3, 60)
ALIKE = BASE + 0.02 + RNG.normal(0, 0.3, 60)


def test_the_second_file_is_judged_against_the_first(files: Files) -> None:
    pair = compare_runs(files(BASE, BETTER)).metrics[0].pairs[0]
    assert (pair.verdict, pair.items_needed) == ("better", None)
    assert pair.paired.difference == pytest.approx((BETTER - BASE).mean())
    assert compare_runs(files(BETTER, BASE)).metrics[0].pairs[0].verdict == "worse"
    assert compare_runs(files(BASE, BETTER, better=False)).metrics[0].pairs[0].verdict == "worse"


def test_what_is_not_decisive_says_how_many_items_would_be(files: Files) -> None:
    pair = compare_runs(files(BASE, ALIKE)).metrics[0].pairs[0]
    assert pair.verdict == "not decisive"
    assert pair.items_needed is not None
    assert pair.items_needed > 60
    assert pair.detectable == pytest.approx(2.8 * 0.3 / 60**0.5, rel=0.25)


def test_of_three_all_pairs_are_compared_and_corrected(files: Files, tmp_path: Path) -> None:
    compared = compare_runs(files(BASE, ALIKE, BETTER))
    pairs = compared.metrics[0].pairs
    assert [(Path(p.a).stem, Path(p.b).stem) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [p.verdict for p in pairs] == ["not decisive", "better", "better"]
    assert pairs[1].p == pytest.approx(3 * pairs[1].paired.p)
    write_comparison(compared, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert content["metrics"][0]["pairs"][1]["p_holm"] == pairs[1].p
    assert content["files"][0].endswith("a.json")


def test_items_are_matched_by_id(files: Files, tmp_path: Path) -> None:
    names = [f"q{i}" for i in range(60)]
    one = files(BASE, ids=names)[0].rename(tmp_path / "one.json")
    other = files(BETTER[::-1], ids=names[::-1])[0]
    pair = compare_runs([one, other]).metrics[0].pairs[0]
    assert (pair.verdict, pair.paired) == (
        "better",
        compare_runs(files(BASE, BETTER)).metrics[0].pairs[0].paired,
    )


def test_clusters_in_the_files_widen_the_interval(files: Files, tmp_path: Path) -> None:
    shift = np.repeat(np.random.default_rng(1).normal(0.2, 0.5, 10), 6)
    names = [f"article {i // 6}" for i in range(60)]
    alone = compare_runs(files(BASE, BASE + shift)).metrics[0].pairs[0].paired
    own = compare_runs(files(BASE, BASE + shift, clusters=names))
    wide = own.metrics[0].pairs[0].paired
    assert (own.clusters, wide.clusters, alone.clusters) == (10, 10, None)
    assert alone.deviation is not None
    assert wide.deviation is not None
    assert wide.deviation > 1.8 * alone.deviation

    plain = files(BASE, BASE + shift, ids=[str(i) for i in range(60)], extra={"article": names})
    lines, by_id = tmp_path / "lines.txt", tmp_path / "by_id.json"
    lines.write_text("\n".join(names) + "\n")
    by_id.write_text(json.dumps({str(i): name for i, name in enumerate(names)}))
    for chosen in ("article", str(lines), str(by_id)):
        assert compare_runs(plain, clusters=chosen).metrics[0].pairs[0].paired == wide


def test_clusters_that_do_not_fit_are_refused(files: Files, tmp_path: Path) -> None:
    runs = files([0.1, 0.2], [0.2, 0.3])
    short = tmp_path / "short.txt"
    short.write_text("one\n")
    by_id = tmp_path / "by_id.json"
    by_id.write_text("{}")
    for chosen, message in (
        ("nosuch", "--clusters: there is no file 'nosuch', nor a list"),
        (str(short), "short.txt: 1 clusters for 2 items"),
        (str(by_id), "names clusters by id, and .*a.json has no ids"),
    ):
        with pytest.raises(InputError, match=message):
            compare_runs(runs, clusters=chosen)
    with pytest.raises(InputError, match="no cluster for the item 'x'"):
        compare_runs(files([0.1, 0.2], [0.2, 0.3], ids=["x", "y"]), clusters=str(by_id))


def test_a_squad_file_without_a_right_answer_is_in_percent_like_others(tmp_path: Path) -> None:
    questions = [Question(str(i), tuple(own)) for i, own in enumerate(REFERENCES)]
    rows = {"none": ["?"] * 4, "all": [own[0] for own in REFERENCES]}
    paths = []
    for name, answers in rows.items():
        found = squad(questions, dict(zip("0123", answers, strict=True)), version="1.1")
        paths.append(write(tmp_path / f"{name}.json", found.exact))
    [compared] = compare_runs(paths).metrics
    assert compared.pairs[0].paired.difference == 100.0
    assert compared.intervals[0].high == pytest.approx(49, abs=1)  # Wilson's, in percent


def test_a_metric_measured_differently_is_left_out_and_told(files: Files, tmp_path: Path) -> None:
    a, b = files(BASE, BETTER)
    for file, signature in ((a, "part|v1"), (b, "part|v2")):
        changed(file, parts=[{"metric": "part", "signature": signature, "items": BASE.tolist()}])
    compared = compare_runs([a, b])
    assert [each.metric for each in compared.metrics] == ["m"]
    assert compared.refused == {"part": "part|v1 and part|v2"}
    assert compared.as_json()["refused"] == compared.refused


def test_figures_too_large_to_square_have_no_spread(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for name in "ab":
        stretches = [Foreseen(-float(x), 100, 0, 1, 100) for x in rng.normal(450, 20, 30)]
        scores = next(s for s in foresight(stretches, "") if s.name == "word_perplexity")
        paths.append(write(tmp_path / f"{name}.json", scores))
    compared = compare_runs(paths)
    paired = compared.metrics[0].pairs[0].paired
    assert paired.difference is not None
    assert paired.deviation is None
    write_comparison(compared, tmp_path / "out.json")
    assert "Infinity" not in (tmp_path / "out.json").read_text()


def changed(path: Path, **keys: Any) -> Path:
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({k: v for k, v in (content | keys).items() if v != "absent"}))
    return path


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metric": "other"}, "a.json, .*b.json: different metrics: m; other"),
        ({"signature": "m|v2"}, r"m was measured in different ways: m\|v1 and m\|v2"),
        ({"higher_is_better": False}, "higher m is better in one of them only"),
        (
            {"items": [0.2], "value": 0.2, "n": 1, "ids": "absent", "clusters": "absent"},
            "different items: 2 and 1",
        ),
        ({"ids": ["x", "z"]}, "1 only in the first, 1 only in the second .such as 'y'."),
        ({"references_sha256": "beef"}, "scored against different references"),
        ({"clusters": ["k", "l"]}, "the items have other 'clusters' than in .*a.json"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    files: Files, keys: dict[str, Any], message: str
) -> None:
    a, b = files(
        [0.1, 0.2],
        [0.2, 0.3],
        ids=["x", "y"],
        clusters=["k", "k"],
        references_sha256="cafe",
    )
    compare_runs([a, b])
    changed(b, **keys)
    with pytest.raises(InputError, match=message) as told:
        compare_runs([a, b])
    assert str(told.value).count("\n") <= 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metric": "absent"}, "no scores of a metric"),
        ({"signature": None}, "'signature' is not a text"),
        ({"items": "x"}, "'items' is not a list of numbers"),
        ({"items": [True, 1]}, "'items' is not a list of numbers"),
        ({"items": [None, 0.2]}, "an item is undefined"),
        ({"n": 3}, "'n' is 3 and there are 2 items"),
        ({"value": 0.9}, "'value' is 0.9, but its items make 0.15"),
        ({"value": "much"}, "'value' is not a number"),
        ({"stats": [[1], [2]]}, "but its items make nothing"),
        ({"stats": [[1, 1], [2]]}, "'stats' is not 2 equally long rows"),
        ({"stats": [[1, "1"], [2, 1]]}, "'stats' holds what is not a number"),
        ({"stats": [[1, 1], [2, 1]], "settings": {"x": 1}}, "a.json: settings: m has the settings"),
        ({"ids": ["x"]}, "'ids' is not one text for each of the 2 items"),
        ({"ids": ["x", "x"]}, "a.json: ids: the id 'x' stands there twice"),
        ({"clusters": [1, 2]}, "'clusters' is not one text for each"),
        ({"parts": 3}, "'parts' is not a list"),
        ({"parts": [3]}, r"a.json: parts\[0\]: not an object"),
        ({"share": 1}, "'higher_is_better' and 'share' are true or false"),
    ],
)
def test_a_broken_file_is_told_with_its_field(
    files: Files, keys: dict[str, Any], message: str
) -> None:
    file = changed(files([0.1, 0.2])[0], **keys)
    with pytest.raises(InputError, match=message):
        read_metric(file)


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "\x1f\x8bx", "[" * 100_000])
def test_what_is_no_file_of_scores_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"a\.json: (not JSON|no scores)"):
        read_metric(file)


def test_the_least_that_a_file_needs(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"metric": "mine", "signature": "s", "items": [1, 0, 1]}')
    assert read_metric(file).scores["mine"].value == pytest.approx(2 / 3)


def test_no_items_are_undefined_not_equal(files: Files) -> None:
    pair = compare_runs(files([], [])).metrics[0].pairs[0]
    assert (pair.verdict, pair.paired.difference, pair.p) == ("not decisive", None, None)


def test_one_file_is_no_comparison(files: Files) -> None:
    with pytest.raises(InputError, match="two files at least"):
        compare_runs(files([0.1]))
