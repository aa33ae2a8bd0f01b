"""``hinlap compare-runs`` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[..., Any]
ITEMS = np.random.default_rng(0).random(40)


def scores(folder: Path, name: str, values: Any, **more: Any) -> Path:
    file = folder / name
    items = [float(x) for x in values]
    file.write_text(json.dumps({"metric": "m", "signature": "m|v1", "items": items, **more}))
    return file


def test_two_files_get_a_sentence_and_three_their_correction(
    hinlap_here: Run, tmp_path: Path
) -> None:
    a = scores(tmp_path, "a.json", ITEMS)
    b = scores(tmp_path, "b.json", ITEMS + 0.3 + 0.01 * (ITEMS > 0.5))
    c = scores(tmp_path, "c.json", ITEMS[::-1])
    ended = hinlap_here("compare-runs", a, b)
    assert ended.returncode == 0, ended.stderr
    assert "m ↑ · 40 items\n  m|v1\n" in ended.stdout
    assert f"{b} against {a}: better, by +0.30" in ended.stdout
    assert "Holm" not in ended.stdout

    ended = hinlap_here("compare-runs", a, b, c, "--json", tmp_path / "out.json")
    assert f"{c} against {a}: not decisive, by 0" in ended.stdout
    assert "(Holm)" in ended.stdout
    assert len(json.loads((tmp_path / "out.json").read_text())["metrics"][0]["pairs"]) == 3


def test_what_cannot_be_compared_exits_with_2(hinlap_here: Run, tmp_path: Path) -> None:
    a = scores(tmp_path, "a.json", ITEMS)
    for arguments, message in (
        ([a], "two files at least are needed"),
        ([a, scores(tmp_path, "b.json", ITEMS, metric="n")], "different metrics: m; n"),
        ([a, tmp_path / "no.json"], "no.json: there is no such file"),
        ([a, a, "--clusters", "x"], "there is no file 'x', nor a list of that name"),
        ([a, a, "--json", tmp_path / "no" / "o.json"], "there is no such folder to write to"),
    ):
        ended = hinlap_here("compare-runs", *arguments)
        assert ended.returncode == 2, message
        assert message in ended.stderr


def test_what_is_odd_in_a_file_is_told_beside_its_figure(hinlap_here: Run, tmp_path: Path) -> None:
    a = scores(tmp_path, "a.json", ITEMS)
    b = scores(tmp_path, "b.json", ITEMS, notes={"empty predictions": 2})
    ended = hinlap_here("compare-runs", a, b, "--json", tmp_path / "out.json")
    [odd] = [line for line in ended.stdout.splitlines() if line.endswith("empty predictions: 2")]
    assert odd.startswith(f"  {b}  ")
    files = json.loads((tmp_path / "out.json").read_text())["metrics"][0]["files"]
    assert [file["notes"] for file in files] == [{}, {"empty predictions": 2}]
    ended = hinlap_here("compare-runs", a, scores(tmp_path, "c.json", ITEMS, notes=[1]))
    assert "c.json: 'notes' does not count items" in ended.stderr


def test_clusters_are_told(hinlap_here: Run, tmp_path: Path) -> None:
    names = [f"k{i // 4}" for i in range(40)]
    a, b = (scores(tmp_path, f"{n}.json", ITEMS, clusters=names) for n in "ab")
    assert "m ↑ · 40 items in 10 clusters" in hinlap_here("compare-runs", a, b).stdout
