"""Splits: stable as rows are added, groups whole, derived rows with their parent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinlap.core.errors import InputError, LeakError
from hinlap.core.rows import Origin, Row
from hinlap.data.leaks import refuse_test_sets
from hinlap.data.manifest import manifest_path, read_manifest
from hinlap.data.row_files import read_rows, write_rows
from hinlap.data.splits import checked_shares, near_across, near_parents, side_of, sides_of
from hinlap.workflows.data_split import split_rows
from hinlap.workflows.load import load

SHARES = {"train": 0.8, "test": 0.2}


def row(number: int, group: str = "", parent: str = "") -> Row:
    return Row(f"r{number}", f"What is {number}?", str(number), group=group, parent=parent)


def test_the_shares_are_kept_within_chance() -> None:
    sides = [side_of(str(n), "key", SHARES) for n in range(10_000)]
    assert abs(sides.count("test") - 2000) < 160  # four standard deviations


def test_another_key_gives_another_split() -> None:
    def sides(key: str) -> list[str]:
        return [side_of(str(n), key, SHARES) for n in range(100)]

    assert sides("a") == sides("a") != sides("b")


def test_a_known_place_of_a_known_group() -> None:
    """Frozen: this must never change, or every split that was made would."""
    assert "".join(side_of(str(n), "hinlap", SHARES)[1] for n in range(30)) == GOLDEN


GOLDEN = "rreeerrerrerrrrrerrrrrrrrrrrrr"

groups = st.sampled_from(["", "", "a", "b", "c"])
many = st.lists(groups, min_size=1, max_size=30)


@given(many, many, st.text(max_size=5))
def test_a_row_stays_on_its_side_when_others_are_added(
    first: list[str], more: list[str], key: str
) -> None:
    rows = [row(n, group) for n, group in enumerate(first + more)]
    before = sides_of(rows[: len(first)], key, SHARES)
    after = sides_of(rows, key, SHARES)
    assert after.sides[: len(first)] == before.sides
    front = sides_of(list(reversed(rows)), key, SHARES)
    assert tuple(reversed(front.sides)) == after.sides


@given(many, st.text(max_size=5), st.lists(st.integers(0, 60), max_size=20))
def test_groups_never_straddle_and_derived_rows_go_with_their_parent(
    first: list[str], key: str, parents: list[int]
) -> None:
    rows = [row(n, group) for n, group in enumerate(first)]
    for n, parent in enumerate(parents):
        rows.append(row(1000 + n, parent=rows[parent % len(rows)].id))
    found = sides_of(rows, key, SHARES)
    side = {r.id: s for r, s in zip(rows, found.sides, strict=True)}
    for group in "abc":
        assert len({side[r.id] for r in rows if r.group == group}) <= 1
    assert all(side[r.id] == side[r.parent] for r in rows if r.parent)
    assert found.orphans == 0


def test_children_of_a_parent_elsewhere_stay_together_and_are_counted() -> None:
    found = sides_of([row(n, parent="gone") for n in range(20)], "k", SHARES)
    assert (len(set(found.sides)), found.orphans) == (1, 20)


def test_a_circle_of_parents_ends() -> None:
    found = sides_of([row(1, parent="r2"), row(2, parent="r1")], "k", SHARES)
    assert len(found.sides) == 2


def test_two_answers_to_one_question_stay_together() -> None:
    rows = [Row("1", "Why?", "a"), Row("2", "why ?", "b")]
    assert all(len(set(sides_of(rows, str(k), SHARES).sides)) == 1 for k in range(30))


LONG = "The ferry to Gull Island turned back in thick fog on Friday with {} passengers aboard"


def test_near_copies_are_found_across_and_kept_together_when_asked() -> None:
    rows = [Row(str(n), LONG.format(n), "x") for n in range(40)]
    apart = sides_of(rows, "k", SHARES)
    assert near_across(rows, apart.sides)
    together = sides_of(rows, "k", SHARES, near=near_parents(rows))
    assert not near_across(rows, together.sides)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), groups), min_size=2, max_size=20), st.data())
def test_near_copies_together_stay_frozen_and_groups_whole(
    kinds: list[tuple[int, str]], data: st.DataObject
) -> None:
    rows = [
        Row(str(n), f"{LONG.format(kind)} and {kind} {kind}", "x", group=group)
        for n, (kind, group) in enumerate(kinds)
    ]
    cut = data.draw(st.integers(1, len(rows)))
    before = sides_of(rows[:cut], "k", SHARES, near=near_parents(rows[:cut]))
    after = sides_of(rows, "k", SHARES, near=near_parents(rows))
    assert after.sides[:cut] == before.sides
    for group in "abc":
        assert len({s for r, s in zip(rows, after.sides, strict=True) if r.group == group}) <= 1


@pytest.mark.parametrize(
    "shares",
    [
        {"train": 1.0},
        {"train": 0.5, "test": 0.4},
        {"train": 1.2, "test": -0.2},
        {"a b": 0.5, "c": 0.5},
    ],
)
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InputError):
        checked_shares(shares)


def test_a_label_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match="has no 'topic' to split by"):
        sides_of([row(1)], "k", SHARES, by="field:topic")


def ids(path: Path) -> set[str]:
    return {found.id for found in read_rows(path) if isinstance(found, Row)}


def test_a_newer_version_keeps_every_row_on_its_side(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [row(n, group=str(n // 3)) for n in range(200)]
    write_rows(path, rows[:150])
    first = split_rows(path, SHARES, key="secret")
    before = {side: ids(file) for side, file in first.files.items()}
    manifest_path(path).unlink()  # a newer version, under the same name
    write_rows(path, rows)
    second = split_rows(path, SHARES)
    assert second.split.key == "secret"
    for side, file in second.files.items():
        assert before[side] <= ids(file)
        manifest = read_manifest(file)
        assert manifest is not None
        assert (manifest.role, manifest.rows) == (side, len(ids(file)))
    assert ids(second.files["train"]) | ids(second.files["test"]) == ids(path)


def test_other_shares_are_refused_unless_the_set_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row(n) for n in range(100)])
    split_rows(path, SHARES)
    other = {"train": 0.5, "test": 0.5}
    for options in (
        {"shares": other},
        {"shares": SHARES, "key": "k"},
        {"shares": SHARES, "by": "content"},
    ):
        with pytest.raises(InputError, match="it is split already"):
            split_rows(path, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="it is split already"):
        split_rows(path, other, resplit="something")
    assert split_rows(path, other, resplit="rows").rows["test"] > 30


def test_a_side_that_was_changed_by_hand_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row(n) for n in range(100)])
    test = split_rows(path, SHARES).files["test"]
    test.write_bytes(test.read_bytes() + b"\n")
    with pytest.raises(InputError, match="changed after its manifest"):
        split_rows(path, SHARES)


def test_a_bad_row_stops_a_split_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row(1)])
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(InputError, match="a record that is no row"):
        split_rows(path, SHARES)
    assert list(tmp_path.iterdir()) == [path]


def taught_with(app: Path, name: str, rows: Any) -> Path:
    """The app's train file becomes one of a split set."""
    whole = app / "data" / "set.jsonl"
    write_rows(whole, [replace(r, labels={"text": f"{r.instruction} {r.id}"}) for r in rows])
    split_rows(whole, SHARES)
    file = app / "app.yaml"
    file.write_text(file.read_text("utf-8").replace("data/train.jsonl", f"data/{name}"), "utf-8")
    return file


ROWS = [Row(f"n{n}", f"Say {n} in words", str(n), origin=Origin.HUMAN) for n in range(60)]


def test_an_app_may_be_taught_with_a_train_side(small_app: Path) -> None:
    taught_with(small_app, "set.train.jsonl", ROWS)
    assert load(small_app).train


@pytest.mark.parametrize("name", ["set.test.jsonl", "set.jsonl"])
def test_no_app_is_taught_with_a_test_side_unless_it_is_named(small_app: Path, name: str) -> None:
    file = taught_with(small_app, name, ROWS)
    with pytest.raises(LeakError, match=r"test side|test rows are in it") as caught:
        load(small_app)
    assert name in (caught.value.hint or "")
    text = file.read_text("utf-8").replace(
        "examples: {", f"examples: {{teach_with_test: [{name}], "
    )
    file.write_text(text, "utf-8")
    app = load(small_app)
    assert app.train
    refuse_test_sets(app)


Run = Callable[..., Any]


def test_the_command_says_sides_and_near_copies(hinlap_here: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [Row(str(n), LONG.format(n), "x") for n in range(40)])
    done = hinlap_here("data", "split", path, "--shares", "train=0.8,test=0.2")
    assert done.returncode == 0
    assert "of near copies on two sides" in done.stdout
    done = hinlap_here("data", "split", path, "--shares", "train=0.8,test=x")
    assert (done.returncode, "no number" in done.stderr) == (2, True)
