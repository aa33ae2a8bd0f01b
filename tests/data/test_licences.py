from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.data.licences import LICENCES, licence_named, licence_of, terms_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CC BY-NC 4.0", "CC-BY-NC-4.0"), ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
        ("Apache-2.0", "Apache-2.0"), ("Apache License 2.0", "Apache-2.0"), ("mit", "MIT"),
        ("MIT License", "MIT"), ("unlicense", "Unlicense"), ("The Unlicense", "Unlicense"),
        ("Creative Commons BY 4.0", "CC-BY-4.0"), ("cc0-1.0", "CC0-1.0"), ("odc-by", "ODC-By-1.0"),
        ("CC BY-NC-SA 4", "CC-BY-NC-SA-4.0"), ("public domain", "public-domain"),
        ("cdla-sharing-1.0", "CDLA-Sharing-1.0"),
    ],
)  # fmt: skip
def test_names_are_known_however_they_are_spelled(text: str, name: str) -> None:
    assert licence_named(text) == name


@pytest.mark.parametrize("text", ["", "CC BY", "cc-by-nc", "OpenRAIL", "other", "CC BY-XX 4.0"])
def test_what_is_not_known_is_not_guessed(text: str) -> None:
    assert licence_of(text) is None


def test_alpaca_and_dolly() -> None:
    terms = terms_of({"alpaca": "CC BY-NC 4.0", "dolly": "CC BY-SA 3.0"})
    assert terms.commercial is False
    assert terms.as_one_work is False
    assert "alpaca (CC-BY-NC-4.0) forbids commercial use" in terms.reasons
    assert any("dolly" in reason and "own licence" in reason for reason in terms.reasons)


def test_one_unknown_licence_makes_all_uncertain() -> None:
    terms = terms_of({"a": "MIT", "b": ""})
    assert (terms.commercial, terms.as_one_work, terms.licence) == (None, None, "")
    assert "b: the licence is unknown (none is named), so nothing is certain" in terms.reasons


def test_a_prohibition_stands_beside_an_unknown_licence() -> None:
    assert terms_of({"a": "CC BY-NC 4.0", "b": "?"}).commercial is False


@pytest.mark.parametrize(
    ("names", "as_one_work", "licence"),
    [
        (("MIT", "MIT"), True, "MIT"),
        (("MIT", "Apache-2.0"), True, ""),
        (("CC-BY-SA-3.0", "CC-BY-SA-4.0"), True, "CC-BY-SA-4.0"),
        (("CC-BY-SA-1.0", "CC-BY-SA-4.0"), False, ""),
        (("CC-BY-SA-4.0", "MIT"), True, "CC-BY-SA-4.0"),
        (("CC-BY-SA-4.0", "GPL-3.0-only"), True, "GPL-3.0-only"),
        (("CC-BY-SA-4.0", "CC-BY-NC-SA-4.0"), False, ""),
        (("CC-BY-NC-SA-4.0", "CC-BY-NC-4.0"), True, "CC-BY-NC-SA-4.0"),
        (("CC-BY-ND-4.0", "MIT"), False, ""),
        (("ODbL-1.0", "CC-BY-SA-4.0"), False, ""),
    ],
)
def test_pairs(names: tuple[str, str], as_one_work: bool, licence: str) -> None:
    terms = terms_of(dict(zip("ab", names, strict=True)))
    assert (terms.as_one_work, terms.licence) == (as_one_work, licence)


@given(st.lists(st.sampled_from(sorted(LICENCES)), min_size=1, max_size=4), st.randoms())
def test_the_order_of_sets_does_not_matter_and_a_set_never_adds_freedom(
    names: list[str], random: object
) -> None:
    sets = {f"set{n}": name for n, name in enumerate(names)}
    terms = terms_of(sets)
    turned = terms_of(dict(reversed(sets.items())))
    assert (terms.commercial, terms.as_one_work) == (turned.commercial, turned.as_one_work)
    assert terms.licence == turned.licence
    more = terms_of({**sets, "more": "CC-BY-NC-4.0"})
    assert more.commercial is False
    assert terms.as_one_work or not more.as_one_work
