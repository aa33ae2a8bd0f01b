"""English sentences: Punkt's rules with a list of abbreviations in the place of a trained model."""

from __future__ import annotations

from functools import cache
from typing import Any

_ABBREVIATIONS = """
mr mrs ms dr prof st jr sr rev hon gen col lt capt cmdr sgt maj gov sen rep pres supt fr messrs mt
ft e.g i.e vs viz cf al et.al approx est dept univ assn bros inc ltd co corp plc llc mfg intl natl
jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
a.m p.m a.d b.c u.s u.k u.n e.u u.s.a d.c l.a n.y ph.d m.d b.a m.a b.sc m.sc
ala ariz ark calif colo conn del fla ga ill ind kan ky la mass mich minn mo mont neb nev okla ore pa
tenn tex va vt wash wis wyo
ave blvd rd hwy
"""


def sentences(text: str) -> list[str]:
    """The sentences of an English text, ends of sentences by . ? !; none in an empty text.

    Source: Kiss and Strunk (2006), "Unsupervised Multilingual Sentence Boundary Detection": its
            rules for initials, ordinals and ellipses, without what it learns from a corpus.
    Peer:   nltk's Punkt with its English model, which lm-evaluation-harness's IFEval counts by;
            docs/lab-notes.md says how often the counts agree. Scripts without . ? ! are one
            sentence.

    >>> sentences("Dr. Reed left at 5 p.m. on Monday. It rained! Why?")
    ['Dr. Reed left at 5 p.m. on Monday.', 'It rained!', 'Why?']
    """
    return list(_tokenizer().tokenize(text))


def tokens(text: str) -> list[str]:
    """Words and signs of an English text as the Penn Treebank has them; a hyphenated word is one.

    Peer: nltk.word_tokenize.

    >>> tokens("It isn't well-known (yet).")
    ['It', 'is', "n't", 'well-known', '(', 'yet', ')', '.']
    """
    from nltk.tokenize.destructive import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    return [token for sentence in sentences(text) for token in tokenizer.tokenize(sentence)]


@cache
def _tokenizer() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    known = PunktParameters()
    known.abbrev_types = set(_ABBREVIATIONS.split())
    return PunktSentenceTokenizer(known)
