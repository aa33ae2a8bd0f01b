"""Manifests: written, read, verified; lineage, mixes, differences, cards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hinlap.core.errors import InputError, LeakError
from hinlap.core.rows import Row
from hinlap.data.manifest import (
    Manifest,
    Parent,
    SplitMark,
    file_sha256,
    manifest_path,
    read_manifest,
    verified,
    write_manifest,
)
from hinlap.data.row_files import read_rows, write_rows
from hinlap.workflows.data_diff import diff_sets
from hinlap.workflows.data_import import ImportOptions, import_rows
from hinlap.workflows.data_log import lineage
from hinlap.workflows.data_mix import mix_sets
from hinlap.workflows.data_split import split_rows

ROWS = [Row(f"r{n}", f"Question {n}?", f"Answer {n}.") for n in range(50)]
Run = Callable[..., Any]


def imported(folder: Path, name: str, rows: list[Row], licence: str = "") -> Path:
    raw = folder / f"raw-{name}"
    write_rows(raw, rows)
    import_rows([str(raw)], folder / name, ImportOptions(licence=licence))
    return folder / name


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    mark = SplitMark("k", {"train": 0.9, "test": 0.1}, "group", "a")
    manifest = Manifest(
        file_sha256(path), 1, "MIT", "hf:a/b", "abc", (Parent("../raw", "0" * 64, "MIT", 3),),
        "hinlap data import", "2026-01-02T03:04:05+00:00", role="test", split=mark,
        counts={"bad_rows": 2},
    )  # fmt: skip
    write_manifest(path, manifest)
    assert read_manifest(path) == verified(path) == manifest


def test_a_file_changed_since_is_told_with_both_hashes(tmp_path: Path) -> None:
    path = imported(tmp_path, "a.jsonl", ROWS)
    before = file_sha256(path)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError) as caught:
        verified(path)
    assert before[:12] in caught.value.what
    assert file_sha256(path)[:12] in caught.value.what


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"sha256": 1, "rows": 2}', b"\xff"])
def test_a_manifest_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    manifest_path(path).write_bytes(content)
    with pytest.raises(InputError, match="manifest"):
        read_manifest(path)


def test_lineage_goes_through_parents_and_tells_what_changed(tmp_path: Path) -> None:
    path = imported(tmp_path, "a.jsonl", ROWS, "MIT")
    train = split_rows(path, {"train": 0.8, "test": 0.2}).files["train"]
    steps = lineage(train)
    assert [(s.path.name, s.depth, s.state) for s in steps] == [
        ("a.train.jsonl", 0, ""), ("a.jsonl", 1, ""), ("raw-a.jsonl", 2, ""),
    ]  # fmt: skip
    (tmp_path / "raw-a.jsonl").unlink()
    assert lineage(train)[2].state == "not there any more"
    path.write_bytes(path.read_bytes() + b"\n")
    steps = lineage(train)
    assert len(steps) == 2
    assert steps[1].state.startswith("changed since")


def test_a_set_that_was_split_still_verifies(tmp_path: Path) -> None:
    path = imported(tmp_path, "a.jsonl", ROWS)
    split_rows(path, {"train": 0.8, "test": 0.2})
    found = verified(path)
    assert found is not None
    assert found.split is not None


def test_a_mix_has_its_parents_their_terms_and_marked_rows(tmp_path: Path) -> None:
    a = imported(tmp_path, "a.jsonl", ROWS[:20], "CC BY-SA 3.0")
    b = imported(tmp_path, "b.jsonl", ROWS[10:30], "CC BY-NC 4.0")
    report = mix_sets([a, b], tmp_path / "c.jsonl")
    assert report.rows == {"a.jsonl": 20, "b.jsonl": 20}
    assert report.renamed == 10
    assert report.terms.commercial is False
    manifest = verified(tmp_path / "c.jsonl")
    assert manifest is not None
    assert [p.licence for p in manifest.parents] == ["CC-BY-SA-3.0", "CC-BY-NC-4.0"]
    found = [r for r in read_rows(tmp_path / "c.jsonl") if isinstance(r, Row)]
    assert [r.labels["from_set"] for r in found] == ["a.jsonl"] * 20 + ["b.jsonl"] * 20


def test_weights_draw_the_same_rows_by_the_same_seed(tmp_path: Path) -> None:
    a, b = imported(tmp_path, "a.jsonl", ROWS), imported(tmp_path, "b.jsonl", ROWS[:3])
    for name in ("c.jsonl", "d.jsonl"):
        rows = mix_sets([a, b], tmp_path / name, weights=[0.5, 1], seed=3).rows
        assert 10 < rows["a.jsonl"] < 40
        assert rows["b.jsonl"] == 3
    assert file_sha256(tmp_path / "c.jsonl") == file_sha256(tmp_path / "d.jsonl")


def test_a_mix_refuses_test_sides_and_whole_sets_that_were_split(tmp_path: Path) -> None:
    a, b = imported(tmp_path, "a.jsonl", ROWS), imported(tmp_path, "b.jsonl", ROWS[:3])
    files = split_rows(a, {"train": 0.8, "test": 0.2}).files
    for path in (files["test"], a):
        with pytest.raises(LeakError, match=r"test side|test rows are in it"):
            mix_sets([path, b], tmp_path / "c.jsonl")
    assert not (tmp_path / "c.jsonl").exists()
    mix_sets([files["train"], b], tmp_path / "c.jsonl")
    mix_sets([files["test"], b], tmp_path / "d.jsonl", with_test=["a.test.jsonl"])


def test_a_difference_is_by_id_and_by_content(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_rows(a, ROWS[:10])
    changed = [replace(ROWS[2], output="Other."), replace(ROWS[3], id="new-name")]
    write_rows(b, [*ROWS[:2], *changed, *ROWS[5:10], ROWS[20]])
    found = diff_sets(a, b)
    assert (found.same, found.renamed, found.changed) == (8, 1, 1)
    assert (found.changed_ids, found.added_ids, found.removed_ids) == (("r2",), ("r20",), ("r4",))
    same = diff_sets(a, a)
    assert (same.same, same.added, same.removed, same.changed) == (10, 0, 0, 0)


def test_a_card_has_what_the_hub_reads(hinlap_here: Run, tmp_path: Path) -> None:
    path = imported(tmp_path, "a.jsonl", [*ROWS, Row("th", "ช้างคืออะไร", "สัตว์")], "CC BY-SA 3.0")
    done = hinlap_here("data", "card", path, "--language", "en")
    assert done.returncode == 0
    text = (tmp_path / "README.md").read_text("utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "cc-by-sa-3.0"
    assert front["language"] == ["en", "th"]
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "a.jsonl"}]
    assert "51 rows" in text
    assert "not legal advice" in text
    assert hinlap_here("data", "card", path).returncode == 2  # it is there


def test_log_diff_and_mix_print_what_they_found(hinlap_here: Run, tmp_path: Path) -> None:
    a = imported(tmp_path, "a.jsonl", ROWS, "CC BY-NC 4.0")
    b = imported(tmp_path, "b.jsonl", ROWS[:3])
    done = hinlap_here("data", "mix", a, b, "--out", tmp_path / "c.jsonl")
    assert "commercial use: no" in done.stdout
    assert "b.jsonl: the licence is unknown" in done.stdout
    assert "not legal advice" in done.stdout
    done = hinlap_here("data", "log", tmp_path / "c.jsonl")
    assert "hinlap data mix" in done.stdout
    assert "raw-a.jsonl" in done.stdout
    done = hinlap_here("data", "diff", a, b)
    assert "removed: 47" in done.stdout
