from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import lxml.html
import pytest

from hinlap.benchmarks.benchmark import Benchmark, Item
from hinlap.core.errors import InputError
from hinlap.core.messages import Completion, Finish
from hinlap.core.progress import Progress, Silent
from hinlap.store.store import Store
from hinlap.workflows.bench import BenchOptions, BenchRun, find_benchmark, run_bench, write_bench
from hinlap.workflows.bench_page import RUNS_COMPARED, write_page
from hinlap.workflows.bench_prompts import Prompting
from hinlap.workflows.compare_runs import compare_runs
from hinlap.workflows.hhh import PARTS, hhh_card
from hinlap.workflows.numbers import short

EVIL = (
    "</script><script>document.title='owned'</script><!--<script>"
    "<img src=x onerror=\"document.title='owned'\">"
)
THAI = "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้า"


@dataclass(frozen=True)
class Scripted:
    """Whoever is asked: gives each text the nats, and each item the answer, that are made for
    them here."""

    name: str
    digest: str
    benchmark: Benchmark
    nats: Callable[[Item, int], float]
    said: Callable[[Item], str | None]

    def weigh(self, items: Sequence[Item]) -> list[list[tuple[float, int]]]:
        return [[(self.nats(i, k), 4) for k in range(len(i.texts))] for i in items]

    def cut(self, items: Sequence[Item]) -> int:
        return 0

    def answer(self, items: Sequence[Item]) -> list[list[Completion]]:
        answers = []
        for item in items:
            text = self.said(item)
            finish = Finish.FAILED if text is None else Finish.STOP
            answers.append([Completion(text or "", finish, 1, 1, 0.1, error="no answer")])
        return answers


@dataclass(frozen=True)
class Making:
    name: str
    nats: Callable[[Item, int], float] = lambda item, k: -10.0 - k
    said: Callable[[Item], str | None] = lambda item: "in 1816"
    chats: bool = False

    def __call__(self, benchmark: Benchmark, how: Prompting, progress: Progress) -> Scripted:
        return Scripted(self.name, f"digest of {self.name}", benchmark, self.nats, self.said)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Whose runs are made a second apart."""
    seconds = iter(range(1000, 10000))
    monkeypatch.setattr("hinlap.store.store.utc_now", lambda: f"2026-01-01T{next(seconds)}")
    opened = Store(tmp_path / "store.db")
    yield opened
    opened.close()


def pairs_file(folder: Path, count: int) -> Path:
    kinds = ("age", "gender", "religion")
    rows = [f"{n},The {n}th poor man.,The {n}th rich man.,stereo,{kinds[n % 3]}\n"
            for n in range(count)]  # fmt: skip
    file = folder / "pairs.csv"
    file.write_text(",sent_more,sent_less,stereo_antistereo,bias_type\n" + "".join(rows))
    return file


def squad_file(folder: Path) -> Path:
    asked = [
        {"id": "told", "question": "When?", "answers": [{"text": "1816", "answer_start": 0}]},
        {"id": "untold", "question": "Why?", "answers": [], "is_impossible": True},
    ]
    paragraph = {"context": f"1816 was a year. {THAI}", "qas": asked}
    file = folder / "squad.json"
    article = {"title": "Warsaw", "paragraphs": [paragraph]}
    file.write_text(json.dumps({"version": "v2.0", "data": [article]}))
    return file


def keep(store: Store, name: str, data: Path, making: Making, **options: Any) -> BenchRun:
    chosen = BenchOptions(data, **options)
    return run_bench(find_benchmark(name), making, chosen, store, Silent())


def page_of(store: Store, tmp_path: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    """The page, and the data that its script reads."""
    file = tmp_path / "bench.html"
    write_page(store, file, **options)
    page = file.read_text("utf-8")
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    return page, json.loads(found[1]) if found else {}


def preferring(threshold: int) -> Callable[[Item, int], float]:
    """Holds the stereotype likelier in the first so many of 7 pairs."""
    return lambda item, k: -10.0 - (k if int(item.id) % 7 < threshold else -k) - int(item.id) / 50


def test_an_empty_store_says_how_to_begin(store: Store, tmp_path: Path) -> None:
    page, data = page_of(store, tmp_path)
    assert "No run is kept here yet" in page
    assert data == {}
    assert "<script" not in page


def test_each_run_is_on_it_with_figure_interval_and_number(store: Store, tmp_path: Path) -> None:
    run = keep(store, "crows-pairs", pairs_file(tmp_path, 70), Making("one", preferring(4)))
    page, data = page_of(store, tmp_path)
    interval = run.figures[0].interval
    assert (
        f"{short(interval.value)} [{short(interval.low)}, {short(interval.high)}] <small>n=70"
        in page
    )
    assert "0.5 is neutral" in page
    assert "one · no shots, float32" in page
    [shown] = data["runs"]
    assert shown["metrics"][0]["groups"].keys() == {"age", "gender", "religion"}
    items = data["sets"][shown["set"]]
    assert items[3][3] == [["", "The 3th poor man.", "more (stereo)"],
                           ["", "The 3th rich man.", "less"]]  # fmt: skip
    assert shown["given"][3] == [
        [-10.06, -11.06],
        [4, 4],
        [],
        [],
        "The more stereotyping sentence is the likelier one, by 1.00 nats (-10.06 against -11.06).",
    ]


def test_a_part_of_the_items_is_counted_as_such(store: Store, tmp_path: Path) -> None:
    keep(store, "squad-v2", squad_file(tmp_path), Making("one"))
    page, data = page_of(store, tmp_path)
    [row] = re.findall(r"squad_v2_no_answer_f1</strong>.*?<small>n=(\d)", page, re.DOTALL)
    assert row == "1"
    assert [given[4] for given in data["runs"][0]["given"]] == [
        "No right answer is the same; the nearest shares words with it (F1 67).",
        "The passage does not tell, and the model answers all the same.",
    ]


def test_no_text_can_break_out_of_the_page(store: Store, tmp_path: Path) -> None:
    making = Making(EVIL, said=lambda item: EVIL + "\ud800\u2028" if item.id == "told" else None)
    keep(store, "squad-v2", squad_file(tmp_path), making)
    page, data = page_of(store, tmp_path)
    assert page.count("<script") == page.count("</script") == 2
    assert "<img" not in page
    assert "<!--" not in page
    assert data["runs"][0]["given"][0][2] == [EVIL + "\ud800\u2028"]
    assert data["runs"][0]["given"][1][2] == [None]
    assert "The model failed to answer" in data["runs"][0]["given"][1][4]


def test_it_needs_nothing_from_outside_and_says_so_to_the_browser(
    store: Store, tmp_path: Path
) -> None:
    keep(store, "squad-v2", squad_file(tmp_path), Making("one"))
    page, _ = page_of(store, tmp_path)
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert THAI in page  # as itself: half the size, and found by the browser's search


def test_tests_in_pairs_are_those_of_compare_runs(store: Store, tmp_path: Path) -> None:
    data = pairs_file(tmp_path, 140)
    files = []
    for name, threshold in (("one", 2), ("two", 5), ("three", 6)):
        run = keep(store, "crows-pairs", data, Making(name, preferring(threshold)))
        files.append(tmp_path / f"{name}.json")
        write_bench(run, files[-1])
    _, shown = page_of(store, tmp_path)
    named = {run["key"]: run["name"].split(" ")[0] for run in shown["runs"]}
    wanted = [
        (
            metric.metric, Path(pair.a).stem, Path(pair.b).stem, short(pair.paired.difference),
            f"[{short(pair.paired.low)}, {short(pair.paired.high)}]", short(pair.p),
            pair.verdict == "not decisive",
        )
        for metric in compare_runs(files).metrics
        for pair in metric.pairs
    ]  # fmt: skip
    found = [
        (
            pair["metric"], named[pair["a"]], named[pair["b"]], pair["difference"],
            pair["interval"], pair["p"], pair["said"].startswith("not decisive"),
        )
        for pair in shown["pairs"]
    ]  # fmt: skip
    assert found == wanted
    assert {pair["tested"] for pair in shown["pairs"]} == {3}
    decided = [p["said"] for p in shown["pairs"] if p["metric"] == "crows_pairs_stereotype"]
    assert "higher (0.5 is neutral)" in decided  # and not "worse": less is not always better


def test_runs_on_other_items_are_not_compared_and_items_stand_once(
    store: Store, tmp_path: Path
) -> None:
    data = pairs_file(tmp_path, 20)
    keep(store, "crows-pairs", data, Making("one"))
    keep(store, "crows-pairs", data, Making("two"), limit=10)
    _, shown = page_of(store, tmp_path)
    assert shown["pairs"] == []
    assert len(shown["sets"]) == 2
    keep(store, "crows-pairs", data, Making("three"))
    _, shown = page_of(store, tmp_path)
    assert len(shown["pairs"]) == 3  # by metric
    assert len(shown["sets"]) == 2


def test_of_many_runs_the_newest_are_tested_and_that_is_said(store: Store, tmp_path: Path) -> None:
    data = pairs_file(tmp_path, 4)
    for number in range(RUNS_COMPARED + 1):
        keep(store, "crows-pairs", data, Making(f"model {number}"))
    page, shown = page_of(store, tmp_path)
    assert f"of {RUNS_COMPARED + 1} runs on the same items, the newest {RUNS_COMPARED}" in page
    oldest = shown["runs"][-1]["key"]
    assert all(oldest not in (pair["a"], pair["b"]) for pair in shown["pairs"])


def test_a_run_of_the_same_model_on_other_data_has_a_name_of_its_own(
    store: Store, tmp_path: Path
) -> None:
    keep(store, "crows-pairs", pairs_file(tmp_path, 4), Making("one"))
    keep(store, "crows-pairs", pairs_file(tmp_path, 5), Making("one"))
    _, shown = page_of(store, tmp_path)
    assert len({run["name"] for run in shown["runs"]}) == 2


def test_over_the_cap_the_oldest_lose_their_items_and_keep_their_figures(
    store: Store, tmp_path: Path
) -> None:
    for name, count in (("oldest", 40), ("middle", 400), ("newest", 30)):
        keep(store, "crows-pairs", pairs_file(tmp_path, count), Making(name, preferring(4)))
    most = 30_000
    page, shown = page_of(store, tmp_path, most_bytes=most)
    assert [run["given"] is None for run in shown["runs"]] == [False, True, True]
    assert [run["values"] is None for run in shown["runs"]] == [False, True, True]
    assert "The items of 2 runs are left out: with them the page would hold over 0.03 MB" in page
    assert "crows-pairs, middle · no shots, float32; crows-pairs, oldest" in page
    assert page.count("n=400") == 3
    assert len(json.dumps(shown["sets"])) < most
    whole, _ = page_of(store, tmp_path)
    assert "left out" not in whole.split("<script")[0]


def test_the_card_stands_on_it_as_it_was_printed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [part for part in PARTS if part[1] in ("truthfulqa-mc", "crows-pairs")]
    monkeypatch.setattr("hinlap.workflows.hhh.PARTS", parts)
    folder = tmp_path / "data" / "crows-pairs"
    folder.mkdir(parents=True)
    pairs_file(folder, 120).rename(folder / "crows_pairs_anonymized.csv")
    options = BenchOptions(tmp_path / "data")
    card = hhh_card(Making("one", preferring(4)), options, store, Silent())
    hhh_card(Making("one", preferring(4)), options, store, Silent())
    page, shown = page_of(store, tmp_path)
    assert page.count("Helpful, honest, harmless: one") == 1  # the later in the earlier's place
    for row in card.rows:
        assert row.meaning in page
    assert "not measured" in page
    assert [run["benchmark"] for run in shown["runs"]] == ["crows-pairs"]


def test_a_missing_folder_is_told_and_a_page_is_never_half_written(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such folder"):
        write_page(store, tmp_path / "nowhere" / "bench.html")
    write_page(store, tmp_path / "bench.html")
    assert [file.name for file in tmp_path.glob("*bench*")] == ["bench.html"]


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium to open the page in: apt-get install chromium")
    return found


def opened(browser: str, file: Path, **state: str) -> Any:
    """The page's tree after its script ran, with ``state`` in its address."""
    profile = file.parent / "profile"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
         "--dump-dom", f"{file.as_uri()}#{urlencode(state)}"],
        capture_output=True, encoding="utf-8", timeout=60, check=True,
    )  # fmt: skip
    return lxml.html.fromstring(done.stdout)


def ids(tree: Any) -> list[str]:
    return [str(each) for each in tree.xpath("//*[@class='id']/text()")]


def test_a_browser_shows_what_its_address_asks_for(
    chromium: str, store: Store, tmp_path: Path
) -> None:
    data = pairs_file(tmp_path, 120)
    keep(store, "crows-pairs", data, Making("one", preferring(4)))
    keep(store, "crows-pairs", data, Making("two", preferring(2)))
    keep(store, "squad-v2", squad_file(tmp_path), Making("three", said=lambda item: EVIL))
    _, shown = page_of(store, tmp_path)
    file = tmp_path / "bench.html"
    three, two, one = (run["key"] for run in shown["runs"])

    tree = opened(chromium, file)  # nothing asked: the newest run
    assert tree.findtext(".//title") == "Benchmarks – Hinlap"
    assert ids(tree) == ["told", "untold"]

    tree = opened(chromium, file, run=three, open="told")
    assert tree.findtext(".//title") == "Benchmarks – Hinlap"  # what was answered did not run
    [item] = tree.xpath("//details[@class='item'][@open]")
    assert EVIL in item.text_content()
    assert "1816 was a year." in item.text_content()

    tree = opened(chromium, file, run=one, beside=two, open="9", metric="crows_pairs_gap")
    tested = tree.get_element_by_id("pairs").text_content()
    assert "two · no shots, float32, against one · no shots, float32" in tested
    [item] = tree.xpath("//details[@class='item'][@open]")
    for words in ("one · no shots, float32: The more", "two · no shots, float32: The less",
                  "-10.18 nats, -2.54 each of 4 tokens", "73.1%, likeliest"):  # fmt: skip
        assert words in item.text_content()
    assert "crows_pairs_gap by kind of bias" in tree.get_element_by_id("breakdown").text_content()

    tree = opened(chromium, file, run=one, page="3")
    assert ids(tree) == [str(n) for n in range(100, 120)]
    assert "120 of 120 items, 101 to 120" in tree.get_element_by_id("count").text_content()

    tree = opened(chromium, file, run=one, group="age", search="9TH POOR", order="high")
    assert ids(tree) == ["9", "99", "39", "69"]  # by value, then as in the file

    tree = opened(chromium, file, run=one, beside=two, differ="1", order="low")
    assert ids(tree)[:3] == ["2", "3", "9"]

    tree = opened(chromium, file, run="gone", beside="gone", metric="gone", page="99")
    assert ids(tree) == ["told", "untold"]  # an old link still opens
