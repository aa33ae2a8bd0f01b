"""What licences of data ask, and what a mix of sets under several of them allows.

A table of names, not legal advice: it says what each licence asks in a word each, for the common
ones, and "unknown" for the rest. SPDX names: spdx.org/licenses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

NOT_ADVICE = "This is a table's answer, not legal advice."


@dataclass(frozen=True, slots=True)
class Licence:
    """What one asks of who passes the data, or what is made from it, on.

    name:           SPDX's, where it has one.
    attribution:    say whose it is.      share_alike: under this licence again.
    non_commercial: no commercial use.    no_derivatives: passed on unchanged only.
    accepts:        licences that a share-alike one lets its adaptations be under, too.
    """

    name: str
    attribution: bool = False
    share_alike: bool = False
    non_commercial: bool = False
    no_derivatives: bool = False
    accepts: tuple[str, ...] = ()


def _creative_commons() -> list[Licence]:
    found = []
    for version in ("1.0", "2.0", "2.5", "3.0", "4.0"):
        for terms in ("", "-SA", "-NC", "-NC-SA", "-ND", "-NC-ND"):
            found.append(
                Licence(
                    f"CC-BY{terms}-{version}",
                    attribution=True,
                    share_alike="SA" in terms,
                    non_commercial="NC" in terms,
                    no_derivatives="ND" in terms,
                    accepts=_accepted(terms, version) if "SA" in terms else (),
                )
            )
    return found


def _accepted(terms: str, version: str) -> tuple[str, ...]:
    """From 2.0 on a later version with the same elements; CC BY-SA 4.0 also the GPL 3."""
    newer = {"2.0": ("2.5", "3.0", "4.0"), "2.5": ("3.0", "4.0"), "3.0": ("4.0",)}
    later = tuple(f"CC-BY{terms}-{late}" for late in newer.get(version, ()))
    return (*later, "GPL-3.0-only") if (terms, version) == ("-SA", "4.0") else later


LICENCES = {
    licence.name: licence
    for licence in (
        *_creative_commons(),
        Licence("CC0-1.0"),
        Licence("PDDL-1.0"),
        Licence("Unlicense"),
        Licence("public-domain"),
        Licence("MIT", attribution=True),
        Licence("Apache-2.0", attribution=True),
        Licence("BSD-2-Clause", attribution=True),
        Licence("BSD-3-Clause", attribution=True),
        Licence("ISC", attribution=True),
        Licence("ODC-By-1.0", attribution=True),
        Licence("ODbL-1.0", attribution=True, share_alike=True),
        Licence("CDLA-Permissive-1.0", attribution=True),
        Licence("CDLA-Permissive-2.0", attribution=True),
        Licence("CDLA-Sharing-1.0", attribution=True, share_alike=True),
        Licence("GFDL-1.3-or-later", attribution=True, share_alike=True),
        Licence("GPL-3.0-only", attribution=True, share_alike=True),
        Licence("GPL-3.0-or-later", attribution=True, share_alike=True),
        Licence("AGPL-3.0-only", attribution=True, share_alike=True),
    )
}
"""By SPDX name."""

_ALIASES = {
    "cc-zero": "CC0-1.0",
    "cc0": "CC0-1.0",
    "pddl": "PDDL-1.0",
    "apache": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache-license-2.0": "Apache-2.0",
    "mit-license": "MIT",
    "the-unlicense": "Unlicense",
    "odc-by": "ODC-By-1.0",
    "odbl": "ODbL-1.0",
    "gfdl": "GFDL-1.3-or-later",
    "gpl-3.0": "GPL-3.0-only",
    "agpl-3.0": "AGPL-3.0-only",
    "bsd-2-clause-license": "BSD-2-Clause",
    "bsd-3-clause-license": "BSD-3-Clause",
    "publicdomain": "public-domain",
    "pd": "public-domain",
}


def licence_of(text: str) -> Licence | None:
    """The licence that a name means, however it is spelled; None where it is not known.

    A Creative Commons name without a version is not one: what the versions ask differs.

    >>> [licence_of(name).name for name in ("CC BY-NC 4.0", "cc-by-sa-3.0", "unlicense")]
    ['CC-BY-NC-4.0', 'CC-BY-SA-3.0', 'Unlicense']
    """
    plain = re.sub(r"[\s_-]+", "-", text.strip().lower()).strip("-")
    plain = plain.replace("creative-commons-", "cc-").replace("license-", "").removeprefix("the-")
    by_name = {name.lower(): licence for name, licence in LICENCES.items()}
    if plain in by_name:
        return by_name[plain]
    if plain in _ALIASES:
        return LICENCES[_ALIASES[plain]]
    if spelled := re.fullmatch(r"cc-?(by(?:-(?:nc|nd|sa))*)-?v?(\d)(?:\.(\d))?", plain):
        return by_name.get(f"cc-{spelled[1]}-{spelled[2]}.{spelled[3] or 0}")
    return None


def licence_named(text: str) -> str:
    """The SPDX name where it is known, else ``text`` as it stands."""
    found = licence_of(text)
    return found.name if found else text.strip()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a mix allows: True, False, or None where a licence is not known.

    as_one_work: whether it can be passed on as one adapted work under one licence. Where it
                 cannot, a collection that keeps every row under its own may still be allowed.
    licence:     that one licence, where it follows from the table; else "".
    attribution: the sets whose authors are to be named. reasons: a sentence each.
    """

    commercial: bool | None
    as_one_work: bool | None
    attribution: tuple[str, ...]
    licence: str
    reasons: tuple[str, ...]


def terms_of(sets: Mapping[str, str]) -> Terms:
    """What a mix of ``sets`` (licence by name of the set) allows, and why."""
    known = {name: licence_of(text) for name, text in sets.items()}
    unknown = [name for name, licence in known.items() if licence is None]
    found = {name: licence for name, licence in known.items() if licence is not None}
    reasons = [
        f"{name}: the licence is unknown ({sets[name] or 'none is named'}), so nothing is certain"
        for name in unknown
    ]
    for name, licence in found.items():
        if licence.non_commercial:
            reasons.append(f"{name} ({licence.name}) forbids commercial use")
        if licence.no_derivatives:
            reasons.append(f"{name} ({licence.name}) forbids passing on a changed or mixed version")
    clashes = _clashes(found)
    reasons += clashes
    alike = {name: licence for name, licence in found.items() if licence.share_alike}
    if alike and not clashes:
        named = ", ".join(f"{name} ({licence.name})" for name, licence in alike.items())
        reasons.append(f"the mix must be passed on under the same licence, because of {named}")
    commercial = None if unknown else True
    if any(licence.non_commercial for licence in found.values()):
        commercial = False
    as_one_work = None if unknown else True
    if clashes or any(licence.no_derivatives for licence in found.values()):
        as_one_work = False
        reasons.append("a collection that keeps each row under its own licence is another matter")
    return Terms(
        commercial,
        as_one_work,
        tuple(name for name, licence in found.items() if licence.attribution),
        _whole(found) if as_one_work else "",
        tuple(reasons),
    )


def _clashes(found: Mapping[str, Licence]) -> list[str]:
    """Pairs that ask for licences of the mix that exclude each other."""
    clashes = []
    items = list(found.items())
    for i, (a, one) in enumerate(items):
        for b, other in items[i + 1 :]:
            for (name, alike), (second, beside) in (((a, one), (b, other)), ((b, other), (a, one))):
                if not alike.share_alike or alike == beside:
                    continue
                if beside.share_alike and not _meet(alike, beside):
                    clashes.append(
                        f"{name} ({alike.name}) and {second} ({beside.name}) each ask for the mix "
                        "to be under their own licence"
                    )
                    break
                if not alike.non_commercial and beside.non_commercial:
                    clashes.append(
                        f"{name} ({alike.name}) asks for the mix to be under its own licence, "
                        f"which allows commercial use; {second} ({beside.name}) forbids it"
                    )
    return list(dict.fromkeys(clashes))


def _meet(one: Licence, other: Licence) -> bool:
    """Whether one share-alike licence lets a mix be under the other."""
    return one == other or other.name in one.accepts or one.name in other.accepts


def _whole(found: Mapping[str, Licence]) -> str:
    names = {licence.name for licence in found.values()}
    if len(names) == 1:
        return names.pop()
    alike = [licence for licence in found.values() if licence.share_alike]
    if alike:
        # the latest: earlier versions accept it
        return next(
            one.name for one in alike if all(one == it or one.name in it.accepts for it in alike)
        )
    return ""
