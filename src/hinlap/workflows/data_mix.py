"""Put sets together, and say what the mix allows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hinlap.core.errors import InputError
from hinlap.core.rows import Row
from hinlap.data.import_state import refuse_existing
from hinlap.data.leaks import refuse_test_set
from hinlap.data.licences import Terms, terms_of
from hinlap.data.manifest import Manifest, file_sha256, parent_of, write_manifest
from hinlap.data.row_files import OwnIds, RowWriter, check_row_file, read_rows


@dataclass(frozen=True, slots=True)
class MixReport:
    """rows: taken, by set. bad: records that were no rows, by set. renamed: ids of two sets."""

    out: Path
    rows: Mapping[str, int]
    bad: Mapping[str, int]
    renamed: int
    terms: Terms


def mix_sets(
    paths: Sequence[Path],
    out: Path,
    *,
    weights: Sequence[float] = (),
    seed: int = 0,
    licences: Mapping[str, str] | None = None,
    with_test: Sequence[str] = (),
    overwrite: bool = False,
    command: str = "",
    created: str = "",
) -> MixReport:
    """Writes the rows of all sets to ``out``, one set after the other, each marked by the label
    ``from_set``; its manifest has them as parents.

    weights:   of each set, in (0, 1]: the share of its rows that is drawn, by ``seed``. None: all.
    licences:  by a set's name, where its manifest has none.
    with_test: names of test sides that are mixed in all the same.
    Raises LeakError for the test side of a split that is not named so, InputError else.
    """
    check_row_file(out)
    refuse_existing(out, overwrite)
    if weights and len(weights) != len(paths):
        raise InputError(
            f"{len(weights)} weights for {len(paths)} sets", where="--weights",
            hint="one for each set, as 1,0.5",
        )  # fmt: skip
    if any(not 0 < weight <= 1 for weight in weights):
        raise InputError(
            "a weight is above 0 and at most 1: the share of a set's rows that is taken",
            where="--weights",
        )
    names = [path.name for path in paths]
    if len(set(names)) < len(names) or len(paths) < 2:
        raise InputError("a mix is of two sets or more, of different names", where=" ".join(names))
    parents = []
    for path in paths:
        if path.exists() and out.exists() and path.samefile(out):
            raise InputError("the file to write is one of the sets", where=f"--out {out}")
        refuse_test_set(path, with_test, "--with-test")
        parents.append(parent_of(path, out))
    named = licences or {}
    stray = [name for name in named if name not in names]
    if stray:
        raise InputError(f"no set {stray[0]!r}", where="--licence", hint=f"sets: {names}")
    parents = [
        replace(parent, licence=named.get(path.name, parent.licence))
        for path, parent in zip(paths, parents, strict=True)
    ]
    terms = terms_of({n: parent.licence for n, parent in zip(names, parents, strict=True)})
    rng, ids = random.Random(seed), OwnIds()
    rows, bad = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    with RowWriter(out) as sink:
        for place, path in enumerate(paths):
            for found in read_rows(path):
                if not isinstance(found, Row):
                    bad[path.name] += 1
                elif not weights or rng.random() < weights[place]:
                    labels = {**found.labels, "from_set": path.name}
                    sink.write(ids.own(replace(found, labels=labels)))
                    rows[path.name] += 1
    write_manifest(
        out,
        Manifest(
            file_sha256(out), sum(rows.values()),
            licence=terms.licence, parents=tuple(parents), command=command, created=created,
            counts={"bad_rows": sum(bad.values()), "renamed_ids": ids.renamed},
        ),
    )  # fmt: skip
    return MixReport(out, rows, bad, ids.renamed, terms)
