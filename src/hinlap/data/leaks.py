"""The wall between train and test: no test item, and no near copy of one, ever teaches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from hinlap.app.app import App
from hinlap.core.errors import LeakError
from hinlap.core.examples import Example, Split
from hinlap.data.manifest import TEST, read_manifest
from hinlap.data.near_duplicates import fingerprint, near_duplicates

NEAR_COPY = 0.5


def refuse_leaks(train: Sequence[Example], test: Sequence[Example]) -> None:
    """Raises LeakError when a training row is a test row, or a near copy of one.

    Near copy: half or more of the two texts' word 5-shingles are shared (Jaccard). Called where
    examples are loaded and again where they teach (few-shot selection, tuning), so that no path
    leads around it.
    """
    for row in train:
        if row.split is not Split.TRAIN:
            raise LeakError(
                f"the test row {row.id!r} was given as a training example",
                where=row.where,
                hint="teach with rows of the train file only",
            )
    by_print = {fingerprint(row.content()): row for row in test}
    by_id = {row.id: row for row in test}
    for row in train:
        twin = by_print.get(fingerprint(row.content()))
        if twin is not None:
            raise LeakError(
                "the same example stands in train and test",
                where=f"{row.where} and {twin.where}",
                hint="remove it from one of the two files",
            )
        if row.id in by_id:
            raise LeakError(
                f"the id {row.id!r} stands in train and test",
                where=f"{row.where} and {by_id[row.id].where}",
                hint="give each row an id of its own",
            )
    pairs = near_duplicates(
        [row.content() for row in train], [row.content() for row in test], threshold=NEAR_COPY
    )
    if pairs:
        i, j, similarity = pairs[0]
        raise LeakError(
            f"a training example is a near copy of a test item ({similarity:.0%} shared)",
            where=f"{train[i].where} and {test[j].where}",
            hint="remove it from one of the two files",
        )


def refuse_test_sets(app: App) -> None:
    """Raises LeakError when the app's train file holds test rows of a split, by its manifest.

    Unless ``examples.teach_with_test`` in app.yaml names the file.
    """
    if app.spec.examples.train is not None:
        path = app.folder / app.spec.examples.train
        refuse_test_set(path, app.spec.examples.teach_with_test, "examples.teach_with_test names")


def refuse_test_set(path: Path, allowed: Collection[str], how: str) -> None:
    """As ``refuse_test_sets``, of one file. how: begins the sentence that allows it by name."""
    manifest = read_manifest(path)
    if manifest is None or path.name in allowed:
        return
    if manifest.role == TEST:
        what, instead = "this is the test side of a split, whose rows never teach", "the train side"
    elif not manifest.role and manifest.split is not None and TEST in manifest.split.shares:
        what = "this set was split, and its test rows are in it"
        instead = f"{manifest.split.of}.train"
    else:
        return
    raise LeakError(
        what, where=str(path), hint=f"teach with {instead}; {how} {path.name} to teach with it"
    )
