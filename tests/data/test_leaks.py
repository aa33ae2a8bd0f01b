"""The wall between train and test, at every door through which a row could get over it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinlap.app.app import App
from hinlap.core.errors import LeakError
from hinlap.core.examples import Example, Split
from hinlap.core.progress import Silent
from hinlap.data.leaks import refuse_leaks
from hinlap.engines.pool import EnginePool
from hinlap.routes.route import RouteContext
from hinlap.routes.table import build_route
from hinlap.store.store import Store
from hinlap.workflows.compare import CompareOptions, compare_routes
from hinlap.workflows.load import load

ENGLISH = (
    "The ferry to Gull Island turned back in thick fog on Friday with ninety passengers aboard, "
    "and the captain said that the harbour lights could not be seen from thirty metres away. "
    "Those on board drank tea until the wind rose, and came ashore two hours later than planned."
)
THAI = (
    "เรือข้ามฟากไปเกาะนางนวลต้องหันหลังกลับเพราะหมอกหนาเมื่อวันศุกร์ มีผู้โดยสารเก้าสิบคน "
    "กัปตันกล่าวว่ามองไม่เห็นไฟท่าเรือจากระยะสามสิบเมตร"
)


def row(text: str, identity: str, split: Split = Split.TEST) -> Example:
    return Example(identity, {"text": text}, split, where=f"{split.value}.jsonl:{identity}")


def rows(*texts: str, split: Split = Split.TEST) -> list[Example]:
    return [row(text, f"{split.value}-{index}", split) for index, text in enumerate(texts)]


def train(*texts: str) -> list[Example]:
    return rows(*texts, split=Split.TRAIN)


def test_different_rows_pass() -> None:
    refuse_leaks(train("A baker sold loaves.", THAI), rows(ENGLISH, "ช้าง"))


def test_nothing_leaks_from_or_into_an_empty_split() -> None:
    refuse_leaks([], rows(ENGLISH))
    refuse_leaks(train(ENGLISH), [])


@pytest.mark.parametrize(
    "copy",
    [
        ENGLISH,
        ENGLISH.upper(),
        "  " + ENGLISH.replace(" ", "\n"),
        ENGLISH.replace(",", " –").rstrip("."),
    ],
    ids=["the same", "capitals", "other spaces", "other punctuation"],
)
def test_the_same_text_is_refused_however_it_is_set(copy: str) -> None:
    with pytest.raises(LeakError, match="the same example stands in train and test"):
        refuse_leaks(train("Another text.", copy), rows(ENGLISH))


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        (ENGLISH, ENGLISH.replace("ninety", "eighty")),
        (ENGLISH, "BREAKING NEWS: " + ENGLISH),
        (THAI, THAI.replace("เก้าสิบ", "แปดสิบ")),
        (THAI + " 🌫️", THAI.replace(" ", "")),
    ],
    ids=["a word changed", "a word before it", "Thai, a word changed", "Thai, no spaces"],
)
def test_a_near_copy_is_refused(text: str, copy: str) -> None:
    with pytest.raises(LeakError, match=r"near copy of a test item|the same example"):
        refuse_leaks(train("Another text.", copy), rows("Something else.", text))


def test_the_message_names_both_places_and_what_to_do() -> None:
    with pytest.raises(LeakError) as caught:
        refuse_leaks(train("x", ENGLISH), rows("y", "z", ENGLISH))
    assert caught.value.where == "train.jsonl:train-1 and test.jsonl:test-2"
    assert caught.value.hint == "remove it from one of the two files"
    assert caught.value.exit_code == 2


def test_one_id_in_both_splits_is_refused() -> None:
    with pytest.raises(LeakError, match="the id '7' stands in train and test"):
        refuse_leaks([row("a", "7", Split.TRAIN)], [row("b", "7")])


def test_a_test_row_given_as_a_train_row_is_refused() -> None:
    with pytest.raises(LeakError, match="the test row 'test-0' was given as a training example"):
        refuse_leaks(rows(ENGLISH), [])


@settings(max_examples=30)
@given(
    st.lists(st.text("abc กขค🌊", min_size=1).filter(str.strip), min_size=1, unique=True),
    st.data(),
)
def test_no_row_taken_from_the_test_split_ever_passes(
    texts: list[str], data: st.DataObject
) -> None:
    stolen = data.draw(st.sampled_from(texts))
    with pytest.raises(LeakError):
        refuse_leaks(train(stolen), rows(*texts))


@contextlib.contextmanager
def context(app: App) -> Iterator[RouteContext]:
    with contextlib.ExitStack() as cleanup:
        store = Store(app.store_path)
        cleanup.callback(store.close)
        environment = {"TEST_KEY": "sk-test"}
        yield RouteContext(EnginePool(Silent()), store, Silent(), cleanup, environment)


def edited(folder: Path, name: str, change: Callable[[list[dict[str, str]]], None]) -> Path:
    file = folder / "data" / name
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    change(found)
    file.write_text("".join(json.dumps(r) + "\n" for r in found), "utf-8")
    return file


def test_an_app_with_a_test_row_among_its_train_rows_does_not_load(small_app: Path) -> None:
    taken = (small_app / "data" / "test.jsonl").read_text("utf-8").splitlines()[1]
    edited(small_app, "train.jsonl", lambda rows: rows.append(json.loads(taken) | {"id": "new"}))
    with pytest.raises(LeakError, match=r"train\.jsonl:5 and .*test\.jsonl:2"):
        load(small_app)


SERVICE = "{kind: service, model: m, shots: 2, key_env: TEST_KEY, prices: {input: 1, output: 1}}"


def taught_by(kind: str, folder: Path) -> App:
    """The app with a route ``taught`` of that kind, whose weights are never read."""
    weights = folder / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"")
    route = SERVICE if kind == "service" else f"{{kind: {kind}, model: {weights}}}"
    text = (folder / "app.yaml").read_text("utf-8")
    text = text.replace("routes:\n", f"routes:\n  taught: {route}\n")
    (folder / "app.yaml").write_text(text, "utf-8")
    return load(folder)


@pytest.mark.parametrize("kind", ["few-shot", "fine-tuned", "service"])
def test_no_route_that_learns_is_built_from_test_rows(small_app: Path, kind: str) -> None:
    app = taught_by(kind, small_app)
    over_the_wall = replace(app, train=app.test)
    with context(app) as ready, pytest.raises(LeakError, match="given as a training example"):
        build_route("taught", over_the_wall, ready)


@pytest.mark.parametrize("kind", ["few-shot", "fine-tuned", "service"])
def test_no_route_that_learns_is_built_when_a_test_row_was_relabelled(
    small_app: Path, kind: str
) -> None:
    app = taught_by(kind, small_app)
    relabelled = replace(app.test[0], id="other", split=Split.TRAIN)
    over_the_wall = replace(app, train=(*app.train, relabelled))
    with context(app) as ready, pytest.raises(LeakError, match="the same example"):
        build_route("taught", over_the_wall, ready)


def test_other_test_items_are_held_against_the_train_rows_too(small_app: Path) -> None:
    train_file = small_app / "data" / "train.jsonl"
    with pytest.raises(LeakError, match="the same example stands in train and test"):
        compare_routes(load(small_app), CompareOptions(test=train_file), Silent())
