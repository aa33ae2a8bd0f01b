from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hinlap.core.errors import StorageError
from hinlap.core.messages import Completion, Finish
from hinlap.store.store import FigureRecord, ItemRecord, Store


def answer(text: str = "An answer.", seconds: float = 1.5) -> Completion:
    return Completion(
        text=text,
        finish=Finish.STOP,
        input_tokens=10,
        output_tokens=5,
        seconds=seconds,
        batch_size=1,
        cached_input_tokens=4,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "app" / ".hinlap" / "hinlap.db")
    yield opened
    opened.close()


@pytest.fixture
def rows(store: Store) -> Iterator[Callable[[str], list[tuple[object, ...]]]]:
    """Reads the file with SQL, beside the store."""
    connection = sqlite3.connect(store.path)
    yield lambda statement: connection.execute(statement).fetchall()
    connection.close()


def test_opening_makes_the_folder_and_the_file(tmp_path: Path, store: Store) -> None:
    assert (tmp_path / "app" / ".hinlap" / "hinlap.db").is_file()


def test_an_answer_comes_back_whole_and_marked_as_cached(store: Store) -> None:
    store.keep_answers("model", [("k", answer("ตอบ 🐘"))])
    found = store.answers(["k", "unknown"])
    assert found == {
        "k": Completion(
            "ตอบ 🐘", Finish.STOP, 10, 5, 1.5, batch_size=1, cached=True, cached_input_tokens=4
        )
    }


def test_the_first_answer_to_a_key_stays(store: Store) -> None:
    store.keep_answers("model", [("k", answer("first", seconds=9.0))])
    store.keep_answers("model", [("k", answer("second", seconds=0.0))])
    assert store.answers(["k"])["k"].text == "first"
    assert store.answers(["k"])["k"].seconds == 9.0


def test_answers_are_there_after_closing_and_opening(store: Store) -> None:
    store.keep_answers("model", [("k", answer())])
    store.close()
    again = Store(store.path)
    assert set(again.answers(["k"])) == {"k"}
    again.close()


def test_more_keys_than_one_statement_takes_are_found(store: Store) -> None:
    keys = [f"{index:064}" for index in range(2600)]
    store.keep_answers("model", [(key, answer()) for key in keys])
    assert set(store.answers(keys)) == set(keys)


def test_nothing_asked_for_is_nothing_found(store: Store) -> None:
    store.keep_answers("model", [])
    assert store.answers([]) == {}
    assert store.weights([]) == {}


def test_weights_come_back_with_their_token_counts(store: Store) -> None:
    store.keep_weights([("a", -12.25, 7), ("b", -0.5, 1)])
    store.keep_weights([("a", 0.0, 0)])
    assert store.weights(["a", "b", "c"]) == {"a": (-12.25, 7), "b": (-0.5, 1)}


def test_ratings_come_back_and_the_first_stays(store: Store) -> None:
    store.keep_ratings([("a", 0.125), ("b", 1.0)])
    store.keep_ratings([("a", 0.5)])
    assert store.ratings(["a", "b", "c"]) == {"a": 0.125, "b": 1.0}
    store.keep_ratings([])
    assert store.ratings([]) == {}


def test_a_benchs_later_run_takes_the_place_of_the_earlier(store: Store) -> None:
    store.keep_bench("k", "hhh", "tiny", "0.1.0", '{"first": 1}')
    store.keep_bench("l", "squad", "tiny", "0.1.0", "{}")
    store.keep_bench("k", "hhh", "tiny", "0.2.0", '{"text": "ช้าง"}')
    found = {each.key: each for each in store.benches()}
    assert set(found) == {"k", "l"}
    assert (found["k"].version, found["k"].content) == ("0.2.0", '{"text": "ช้าง"}')


def test_benches_come_oldest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, second in (("z", 1), ("a", 3), ("m", 2)):
        moment = f"2026-01-01T00:00:0{second}+00:00"
        monkeypatch.setattr("hinlap.store.store.utc_now", lambda moment=moment: moment)
        store.keep_bench(key, "hhh", "tiny", "0.1.0", "{}")
    assert [each.key for each in store.benches()] == ["z", "m", "a"]


def test_runs_are_numbered_one_after_another(store: Store) -> None:
    numbers = [store.start_run("app", "d" * 64, "compare", "0.1.0") for _ in range(3)]
    assert numbers == [1, 2, 3]


def test_a_finished_run_has_its_items_figures_and_end(
    store: Store, rows: Callable[[str], list[tuple[object, ...]]]
) -> None:
    run = store.start_run("app", "d" * 64, "compare", "0.1.0")
    figures = [
        FigureRecord("a", "summary.rougeL", 0.25, 0.2, 0.3, 10, "rougeL|v1"),
        FigureRecord("a", "latency_seconds.p50", None, None, None, 0, "singly"),
    ]
    store.finish_run(run, [ItemRecord("a", "item-1", "summary", "ok", "ข่าว", "")], figures)
    assert store.figures(run) == figures
    assert rows("select run_id, item, output from items") == [(run, "item-1", "ข่าว")]
    assert rows("select count(*) from runs where finished_at is not null") == [(1,)]


def test_a_run_that_was_killed_has_no_end(
    store: Store, rows: Callable[[str], list[tuple[object, ...]]]
) -> None:
    store.start_run("app", "d" * 64, "compare", "0.1.0")
    assert rows("select finished_at from runs") == [(None,)]


def test_prompts_are_not_kept(
    store: Store, rows: Callable[[str], list[tuple[object, ...]]]
) -> None:
    columns = {row[1] for row in rows("pragma table_info(answers)")}
    assert columns.isdisjoint({"prompt", "messages", "request"})


def test_threads_write_at_once(store: Store) -> None:
    def write(thread: int) -> None:
        for index in range(10):
            store.keep_answers("model", [(f"{thread}-{index}", answer())])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.answers([f"{t}-{i}" for t in range(4) for i in range(10)])) == 40


OPEN_AND_WRITE = """
import sys
from pathlib import Path
from hinlap.core.messages import Completion, Finish
from hinlap.store.store import Store

store = Store(Path(sys.argv[1]))
store.keep_answers("model", [(sys.argv[2], Completion("x", Finish.STOP, 1, 1, 1.0))])
print("written", flush=True)
sys.stdin.read()
"""


def process(path: Path, key: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_WRITE, str(path), key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with process(path, "a") as one, process(path, "b") as two:
        one.communicate()
        two.communicate()
    store = Store(path)
    assert set(store.answers(["a", "b"])) == {"a", "b"}
    store.close()


def test_a_new_store_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """SQLite gives up at once, not after its timeout, where several turn a new file to WAL."""
    for n in range(20):
        barrier, failed = threading.Barrier(6), []

        def opened(path: Path, barrier: threading.Barrier, failed: list[Exception]) -> None:
            barrier.wait()
            try:
                Store(path).close()
            except StorageError as error:
                failed.append(error)

        one = tmp_path / f"{n}.db", barrier, failed
        threads = [threading.Thread(target=opened, args=one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []


def test_what_was_written_outlives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    with process(path, "a") as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        os.kill(writer.pid, signal.SIGKILL)
    store = Store(path)
    assert set(store.answers(["a"])) == {"a"}
    store.close()


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(store: Store) -> None:
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    before = store.path.read_bytes()
    with pytest.raises(StorageError, match=r"newer Hinlap \(its version is 9999\)\n  → upgrade"):
        Store(store.path)
    assert store.path.read_bytes() == before


def test_a_file_that_is_no_store_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "hinlap.db"
    path.write_text("these are my notes, not a database at all\n" * 50)
    with pytest.raises(StorageError, match=r"hinlap\.db: .*not a database\n  → the file is not a"):
        Store(path)
    assert path.read_text().startswith("these are my notes")


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / ".hinlap").write_text("")
    with pytest.raises(StorageError, match="the store cannot be used"):
        Store(tmp_path / ".hinlap" / "hinlap.db")
