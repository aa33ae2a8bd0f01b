"""The noun of this room, ``Article``, and the hygiene every text passes on its way in."""

from __future__ import annotations

import codecs
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from hinlap.core.counting import counted


@dataclass(frozen=True, slots=True)
class Article:
    """One article, its text tidied (see ``tidy``).

    id:        the row's own, or 12 hex digits of a hash of what it says (see ``make_article``).
    published: ISO 8601, or "" where the source gives no date that can be read.
    """

    id: str
    title: str
    text: str
    url: str = ""
    source: str = ""
    published: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something that was found but could not be used, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user should know about what was kept."""

    where: str
    text: str


Found = Article | Dropped | Note
"""What a source yields, one by one: a source that fails midway keeps what it gave before."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one source gave."""

    articles: tuple[Article, ...]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


def collect(found: Iterable[Found]) -> Batch:
    """The batch of everything in ``found``; errors of the source pass through."""
    everything = list(found)
    return Batch(
        tuple(item for item in everything if isinstance(item, Article)),
        tuple(item for item in everything if isinstance(item, Dropped)),
        tuple(f"{item.where}: {item.text}" for item in everything if isinstance(item, Note)),
    )


def make_article(
    title: str,
    text: str,
    *,
    url: str = "",
    source: str = "",
    published: str = "",
    topic: str = "",
    own_id: str = "",
) -> Article:
    """An article with tidied fields. Without ``own_id``, ``id`` is 12 hex digits of the sha256
    of the canonical URL, or of title and text where there is no URL."""
    title, text = one_line(title), tidy(text)
    address = one_line(url)
    identity = canonical_url(address) or f"{title}\n{text}"
    return Article(
        id=one_line(own_id) or hashlib.sha256(identity.encode()).hexdigest()[:12],
        title=title,
        text=text,
        url=redact(address),
        source=one_line(source),
        published=iso_date(published),
        topic=one_line(topic),
    )


# Text ---------------------------------------------------------------------------------------

_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufeff\ufffe\uffff]")
_HTML_TAG = re.compile(
    r"</?(?:p|br|div|span|a|b|i|em|strong|ul|ol|li|table|tr|td|img|h[1-6]|blockquote|figure)"
    r"(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_BLOCKS = frozenset(
    ("p", "div", "ul", "ol", "table", "tr", "blockquote", "pre", "section", "article", "header",
     "footer", "figure", "figcaption", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "dl", "dt", "dd")
)  # fmt: skip
_UNSEEN = frozenset(("script", "style", "head", "template", "noscript", "iframe", "object", "svg"))
# C1 controls are in practice Windows-1252 read as Latin-1: put back what was meant.
_C1 = {c: bytes([c]).decode("cp1252", "ignore") or None for c in range(0x80, 0xA0)}


def tidy(text: str) -> str:
    """NFC; no control characters or lone surrogates; single spaces; at most one empty line.

    Paragraphs, emoji sequences, Thai vowels and sara am stay as they are.

    >>> tidy("  one \\t two\\r\\n\\r\\n\\r\\nthree\\x00 ")
    'one two\\n\\nthree'
    """
    if _SURROGATES.search(text):  # pairs become the character they mean, lone ones U+FFFD
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = _CONTROLS.sub("", _LINE_ENDS.sub("\n", text.translate(_C1)))
    text = re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFC", text))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


def one_line(text: str) -> str:
    """``tidy``, with line ends as spaces."""
    return " ".join(tidy(text).split())


def looks_like_html(text: str) -> bool:
    """Whether ``text`` holds a tag that articles use."""
    return _HTML_TAG.search(text) is not None


def html_to_text(html: str) -> str:
    """What a reader of ``html`` sees: a block is a paragraph, <br> and <li> a line."""
    import lxml.html  # type: ignore[import-untyped]
    from lxml import etree

    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        root = lxml.html.document_fromstring(f"<div>{tidy(html)}</div>".encode(), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError):
        return ""
    parts: list[str] = []
    unseen = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if element.tag in _UNSEEN:
            unseen += 1 if event == "start" else -1
        elif not unseen:
            if element.tag in _BLOCKS:
                parts.append("\n\n")
            elif element.tag in ("br", "li") and event == "start":
                parts.append("\n")
            elif element.tag in ("td", "th"):
                parts.append(" ")
            if event == "start":
                parts.append(re.sub(r"\s+", " ", element.text or ""))
        if event == "end" and not unseen:
            parts.append(re.sub(r"\s+", " ", element.tail or ""))
    return tidy("".join(parts))


# Bytes --------------------------------------------------------------------------------------

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# As browsers do, a declared name stands for the superset that is really meant.
_MEANT = {
    "iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252",
    "ascii": "cp1252", "tis-620": "cp874", "iso-8859-11": "cp874", "windows-874": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949", "iso-8859-9": "cp1254",
}  # fmt: skip
_NOT_WESTERN = frozenset(
    ("Polish", "Czech", "Slovak", "Hungarian", "Romanian", "Croatian", "Slovene", "Turkish",
     "Lithuanian", "Latvian", "Estonian", "Vietnamese")
)  # fmt: skip


def decode(data: bytes, declared: str = "") -> tuple[str, str]:
    """The text of ``data``, and a note on its encoding, "" where there is nothing to say.

    Tried in turn: a byte order mark; UTF-8, which nothing else looks like; what is ``declared``;
    UTF-8 with a few broken bytes; the likeliest by statistics. Never fails: bytes that nothing
    explains become U+FFFD, and the note says so.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace"), ""
    declared = declared.strip().strip("\"'").lower()
    shifted = declared.startswith(("iso-2022", "hz")) and data.isascii()
    if not shifted:
        try:
            return data.decode("utf-8"), ""
        except UnicodeDecodeError:
            pass
    if declared not in ("", "utf-8", "utf8"):
        try:
            return data.decode(_MEANT.get(declared, declared)), ""
        except (UnicodeDecodeError, LookupError, ValueError):
            pass
    mended = data.decode("utf-8", "replace")
    broken = mended.count("\ufffd")
    if broken * 4 <= sum(1 for char in mended if char > "\x7f") - broken:
        return mended, f"not UTF-8 in {counted(broken, 'place')}, replaced by U+FFFD"
    said = f"declared {declared} but is not" if declared else "not UTF-8 and declares nothing"
    guess = _likeliest_encoding(data)
    if guess:
        return data.decode(guess, "replace"), f"{said}: read as {guess}"
    return mended, f"{said}: {counted(broken, 'place')} replaced by U+FFFD"


_LATIN = ["cp1252", "cp1250", "cp1254", "cp1257"]


def _likeliest_encoding(data: bytes) -> str:
    """By the statistics of charset-normalizer, which markup would only blur; "" if none fits."""
    from charset_normalizer import from_bytes

    sample = re.sub(rb"</?[A-Za-z][^<>]*>", b" ", data[:200_000])[:100_000]
    runs = re.findall(rb"[\x80-\xff]+", sample)
    latin = sum(map(len, runs)) < 2 * len(runs)  # single letters among ASCII
    matches = list(from_bytes(sample, cp_isolation=_LATIN if latin else None))
    if latin:
        # Among the Latin code pages the statistics are a toss: Windows-1252 is the web's default.
        chaos = matches[0].chaos if matches else 0.0
        even = any(match.encoding == "cp1252" and match.chaos <= chaos for match in matches)
        if even or not matches or matches[0].language not in _NOT_WESTERN:
            return "cp1252"
    guess = str(matches[0].encoding) if matches else ""
    return "cp874" if guess not in ("cp949", "euc_kr") and _reads_as_thai(sample) else guess


def _reads_as_thai(sample: bytes) -> bool:
    """Whether vowel and tone marks stand where Thai has them, on a consonant, and words are not
    shot through with ASCII. Short Thai texts pass the statistics as Chinese ones."""
    try:
        text = sample.decode("cp874")
    except UnicodeDecodeError:
        return False
    marks = len(re.findall("[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]", text))
    seated = re.findall("[\u0e01-\u0e2e][\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]{1,3}", text)
    mixed = len(re.findall("[\u0e01-\u0e5b][!-~]", text))
    thai = len(re.findall("[\u0e01-\u0e5b]", text))
    in_place = sum(len(run) - 1 for run in seated)
    return marks >= 3 and in_place > 0.95 * marks and mixed < 0.1 * thai


# Dates --------------------------------------------------------------------------------------


def iso_date(value: str) -> str:
    """``value`` as ISO 8601 with what precision it has, or "" when it cannot be read.

    >>> iso_date("Wed, 03 Jan 2018 13:47:00 GMT"), iso_date("03 Aug 2017,Thursday")
    ('2018-01-03T13:47:00+00:00', '2017-08-03')
    """
    value = value.strip()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        try:
            return datetime.fromisoformat(value).date().isoformat()
        except ValueError:
            return ""
    try:
        return datetime.fromisoformat(value).isoformat()
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(value).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        pass
    for pattern in ("%d %b %Y,%A", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%b %d, %Y", "%Y/%m/%d"):
        try:
            return datetime.strptime(value, pattern).date().isoformat()
        except ValueError:
            continue
    return ""


# Addresses ----------------------------------------------------------------------------------

_TRACKING = re.compile(
    r"utm_\w+|fbclid|gclid|dclid|msclkid|yclid|igshid|mc_[ce]id|_hs(?:enc|mi)|ocid|cmpid|cmp|"
    r"ncid|xtor|wt[._]mc\w*|spm|smid|ito|ns_(?:mchannel|source|campaign|linkname)|"
    r"at_(?:medium|campaign|custom\d)",
    re.IGNORECASE,
)
_SECRET = re.compile(
    r"(?<=[?&;])((?:x-)?api[-_]?key|(?:access|auth)[-_]?token|token|auth|secret|passw(?:or)?d|pwd|"
    r"sig(?:nature)?|x-amz-[\w-]+|key(?==[\w-]{16,}))=[^&#\s]*",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")


def canonical_url(url: str) -> str:
    """The form under which two addresses of one article are equal; "" when it names no article.

    Only for comparing, never for fetching. Host in lower case without ``www.`` (a publisher's
    two hosts serve the same article), no scheme, default port, fragment, tracking parameters or
    trailing slash; the query sorted. A bare home page is no article's address.

    >>> canonical_url("HTTP://www.Example.com:80/a/?utm_source=x&b=2&a=1#top")
    'example.com/a?a=1&b=2'
    >>> canonical_url("https://example.com/")
    ''
    """
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return ""
    if parts.scheme.lower() not in ("http", "https") or not host:
        return ""
    host = host.removeprefix("www.")
    if port not in (None, 80, 443):
        host = f"{host}:{port}"
    path = quote(parts.path, safe="%/:@!$&'()*+,;=~")
    path = re.sub(r"%[0-9a-fA-F]{2}", lambda found: found[0].upper(), path).rstrip("/")
    kept = sorted(
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not _TRACKING.fullmatch(name)
    )
    if not path and not kept:
        return ""
    return urlunsplit(("", host, path, urlencode(kept), "")).removeprefix("//")


def redact(text: str) -> str:
    """``text`` with the values of parameters that hold keys, and user:password@, as ``***``.

    >>> redact("https://me:pw@example.com/feed?token=abc&page=2")
    'https://***@example.com/feed?token=***&page=2'
    """
    return _SECRET.sub(r"\1=***", _USER_INFO.sub("***@", text))
