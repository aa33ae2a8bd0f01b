"""A Hugging Face data card of a set: what its manifest and its rows say, and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from hinlap.core.errors import InputError
from hinlap.core.rows import Row
from hinlap.data.licences import NOT_ADVICE, licence_of, terms_of
from hinlap.data.manifest import Manifest, verified
from hinlap.data.row_files import read_rows
from hinlap.data.whole_file import write_whole
from hinlap.workflows.data_log import Step, lineage

_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"),
)  # fmt: skip
_LANGUAGE_SHARE = 0.01
_THAI = re.compile("[\u0e01-\u0e5b]")


def write_card(path: Path, out: Path, languages: Sequence[str] = ()) -> Path:
    """Writes the card of the set at ``path`` to ``out``, and gives where.

    languages: ISO 639-1 codes. Thai is found by its letters, in more than 1 row of 100; no other
    is guessed.
    Raises InputError where there is no manifest, or the file is not the one it speaks of.
    """
    manifest = verified(path)
    if manifest is None:
        raise InputError(
            "there is no manifest beside it", where=str(path), hint="hinlap data import writes one"
        )
    origins: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    thai = rows = bad = 0
    for found in read_rows(path):
        if not isinstance(found, Row):
            bad += 1
            continue
        rows += 1
        origins[found.origin.value] += 1
        labels.update(found.labels.keys())
        thai += bool(_THAI.search(found.content()))
    codes = list(dict.fromkeys([*languages, *(["th"] if thai > rows * _LANGUAGE_SHARE else [])]))
    head = yaml.safe_dump(_front(path, manifest, rows, codes), sort_keys=False, allow_unicode=True)
    body = _body(path, manifest, lineage(path), rows, bad, origins, labels, thai, codes)
    write_whole(out, f"---\n{head}---\n\n{body}".encode())
    return out


def _front(path: Path, manifest: Manifest, rows: int, codes: Sequence[str]) -> dict[str, object]:
    known = licence_of(manifest.licence)
    several = any(parent.licence for parent in manifest.parents)
    unnamed = "other" if manifest.licence or several else "unknown"
    # the hub's own names: SPDX in small letters, "other", "unknown"
    front: dict[str, object] = {"license": known.name.lower() if known else unnamed}
    if manifest.licence and known is None:
        front["license_name"] = manifest.licence
    if codes:
        front["language"] = list(codes)
    front["pretty_name"] = path.name.split(".")[0]
    front["task_categories"] = ["text-generation"]
    front["size_categories"] = [next((name for size, name in _SIZES if rows < size), "n>1T")]
    split = manifest.role or "train"
    data_files = [{"split": split, "path": path.name}]
    front["configs"] = [{"config_name": "default", "data_files": data_files}]
    return front


def _body(
    path: Path,
    manifest: Manifest,
    steps: Sequence[Step],
    rows: int,
    bad: int,
    origins: Counter[str],
    labels: Counter[str],
    thai: int,
    codes: Sequence[str],
) -> str:
    lines = [f"# {path.name.split('.')[0]}", "", f"{rows:,} rows in `{path.name}`.", ""]
    lines += ["## Rows", "", "| written by | rows |", "|---|---|"]
    lines += [f"| {name} | {count:,} |" for name, count in origins.most_common()]
    if labels:
        named = ", ".join(f"`{name}` ({count:,})" for name, count in labels.most_common(30))
        lines += ["", f"Labels, with how many rows have them: {named}."]
    if thai:
        lines += ["", f"{thai:,} rows hold Thai letters."]
    if not codes:
        lines += ["", "The language was not named."]
    lines += ["", "## Checks", ""]
    counts = {**manifest.counts, "records in it that are no rows": bad}
    lines += [f"- {name.replace('_', ' ')}: {count:,}" for name, count in counts.items()]
    if manifest.split is not None:
        shares = ", ".join(f"{side} {share:g}" for side, share in manifest.split.shares.items())
        side = f"; this is the side `{manifest.role}`" if manifest.role else ""
        lines.append(f"- split: {shares}, by {manifest.split.by}, key `{manifest.split.key}`{side}")
    lines += ["", "## Licence", "", *_licence(path, manifest)]
    lines += ["", "## Lineage", ""]
    for step in steps:
        lines.append(f"{'  ' * step.depth}- `{step.path.name}`{_about(step)}")
    lines += [
        "", f"SHA-256 `{manifest.sha256}`, made {manifest.created or 'at an unknown time'} by "
        f"Hinlap {manifest.version}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _licence(path: Path, manifest: Manifest) -> list[str]:
    named = {Path(parent.path).name: parent.licence for parent in manifest.parents}
    sets = {name: licence for name, licence in named.items() if licence}
    sets = {path.name: manifest.licence} if manifest.licence or not sets else named
    terms = terms_of(sets)
    words = {True: "yes", False: "no", None: "unknown"}
    return [
        manifest.licence or "No one licence for the whole.",
        "",
        f"- commercial use: {words[terms.commercial]}",
        f"- passed on as one work: {words[terms.as_one_work]}",
        *(f"- {reason}" for reason in terms.reasons),
        *([f"- to be named: {', '.join(terms.attribution)}"] if terms.attribution else []),
        "",
        NOT_ADVICE,
    ]


def _about(step: Step) -> str:
    if step.state:
        return f": {step.state}"
    if step.manifest is None:
        return ": a file without a manifest"
    told = [f"{step.manifest.rows:,} rows"]
    if step.manifest.source:
        told.append(f"{step.manifest.source} at {step.manifest.revision[:12]}")
    if step.manifest.licence:
        told.append(step.manifest.licence)
    return f": {', '.join(told)}"
