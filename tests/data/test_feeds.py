from __future__ import annotations

import json
from pathlib import Path

import pytest

from hinlap.core.errors import InputError
from hinlap.data.sources.article import Article, Batch, Note, collect, html_to_text, one_line
from hinlap.data.sources.feeds import looks_like_feed, read_feed
from hinlap.data.sources.files import read_path

RECORDED = Path(__file__).parents[2].parent / "shared/data/news-feeds"
here = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded feeds are not here")

ITEMS = """<item><title>One &amp; only</title><link>https://paper.example/1</link>
<description>Short.</description><pubDate>Wed, 03 Jan 2018 13:47:00 GMT</pubDate>
<category>Local</category></item>"""


def rss(items: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> str:
    return (
        f'{head}<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/">'
        f"<channel><title>The Paper</title>{items}</channel></rss>"
    )


def item(body: str, title: str = "T") -> str:
    return f"<item><title>{title}</title><description><![CDATA[{body}]]></description></item>"


def read(data: str | bytes, **more: str) -> Batch:
    raw = data.encode() if isinstance(data, str) else data
    return collect(read_feed(raw, where="feed.xml", **more))  # type: ignore[arg-type]


def test_an_rss_entry_becomes_an_article() -> None:
    (article,) = read(rss(ITEMS)).articles
    assert article == Article(
        article.id, "One & only", "Short.", "https://paper.example/1", "The Paper",
        "2018-01-03T13:47:00+00:00", "Local",
    )  # fmt: skip
    assert len(article.id) == 12


def test_the_whole_content_goes_before_the_description() -> None:
    whole = "<content:encoded><![CDATA[<p>First.</p><p>Second.</p>]]></content:encoded>"
    (article,) = read(rss(ITEMS.replace("</item>", f"{whole}</item>"))).articles
    assert article.text == "First.\n\nSecond."


def test_html_becomes_paragraphs_without_scripts() -> None:
    body = (
        "<h2>Head</h2><p>One<br>two &amp; <b>three</b></p><script>x()</script><ul><li>a<li>b</ul>"
    )
    (article,) = read(rss(item(body))).articles
    assert article.text == "Head\n\nOne\ntwo & three\n\na\nb"


def test_thai_and_emoji_stay_whole() -> None:
    text = "ทำเนียบรัฐบาล น้ำท่วม กำลัง 👩‍👩‍👧 🇹🇭 café"
    (article,) = read(rss(item(f"<p>{text}</p>", title=text))).articles
    assert (article.title, article.text) == (text, text)


@pytest.mark.parametrize(
    ("declared", "real", "note"),
    [
        ("windows-874", "cp874", ""),
        ("tis-620", "cp874", ""),
        ("iso-8859-1", "utf-8", ""),
        ("utf-8", "cp874", "declared utf-8 but is not: read as cp874"),
        ("utf-16", "utf-16", ""),
    ],
)
def test_wrong_and_national_encodings_are_read(declared: str, real: str, note: str) -> None:
    text = "คณะรัฐมนตรีมีมติเห็นชอบโครงการรถรางสายเก่าให้เปิดเดินรถต่อไปอีกสิบปี"
    head = f"<?xml version='1.0' encoding='{declared}'?>"
    batch = read(rss(item(text), head).encode(real))
    assert batch.articles[0].text == text
    assert batch.notes == ((f"feed.xml: {note}",) if note else ())


def test_a_few_broken_bytes_do_not_spoil_the_rest() -> None:
    data = rss(item("Überall schöne Grüße aus Köln")).encode().replace("ö".encode(), b"\xf6", 1)
    batch = read(data)
    assert batch.articles[0].text == "Überall sch\ufffdne Grüße aus Köln"
    assert "not UTF-8" in batch.notes[0]


@pytest.mark.parametrize("cut", ["</channel></rss>", "</item></channel></rss>"])
def test_broken_xml_gives_what_can_be_had(cut: str) -> None:
    data = rss(item("Fish &amp; chips") + item("Salt & vinegar &nbsp; <b>now")).replace(cut, "")
    batch = read(data)
    assert [article.text for article in batch.articles] == ["Fish & chips", "Salt & vinegar now"]
    assert "broken XML" in batch.notes[0]


def test_entries_without_a_text_are_dropped_with_the_reason() -> None:
    batch = read(rss("<item><title>Only this</title></item><item><guid>x</guid></item>"))
    assert batch.articles == ()
    assert [(drop.where, drop.reason) for drop in batch.dropped] == [
        ("feed.xml, entry 1", "no text"),
        ("feed.xml, entry 2", "neither title nor text"),
    ]


def test_a_feed_without_entries_says_so() -> None:
    assert read(rss("")).notes == ("feed.xml: the feed has no entries",)


@pytest.mark.parametrize("data", ["", "<html><body>Moved</body></html>", "/etc/passwd", "{}", "{"])
def test_what_is_no_feed_is_refused(data: str) -> None:
    with pytest.raises(InputError, match=r"feed\.xml"):
        read(data)


def test_entities_that_grow_or_name_files_are_not_followed() -> None:
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<!DOCTYPE rss [<!ENTITY e0 "ha"><!ENTITY f SYSTEM "file:///etc/passwd">{bomb}]>'
    data = rss("<item><title>T</title><description>x&e11;&f;y</description></item>", head)
    texts = [article.text for article in read(data).articles]
    assert all(len(text) < 100 and "root:" not in text for text in texts)


def test_the_detours_of_feedburner_and_google_are_left_out() -> None:
    link = "https://www.google.com/url?rct=j&amp;url=https://paper.example/1&amp;ct=ga"
    (article,) = read(rss(ITEMS.replace("https://paper.example/1", link))).articles
    assert article.url == "https://paper.example/1"


def test_a_json_feed_is_read() -> None:
    feed = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": "The Paper",
        "items": [
            {"id": "1", "url": "https://paper.example/1", "title": "T", "content_html": "<p>A</p>"},
            {"id": "2", "content_text": "B", "date_published": "2024-05-01T10:00:00Z"},
            {"id": "3"},
            "odd",
        ],
    }
    data = json.dumps(feed)
    assert looks_like_feed(data.encode())
    batch = read(data)
    assert [(article.title, article.text) for article in batch.articles] == [("T", "A"), ("", "B")]
    assert len(batch.dropped) == 2


def test_feeds_are_told_from_pages() -> None:
    assert looks_like_feed(rss("").encode("utf-16"))
    assert looks_like_feed(b"<?xml version='1.0'?><!-- x --><rdf:RDF xmlns='a'>")
    assert not looks_like_feed(b"<?xml version='1.0'?><html><body><feed></body>")
    assert not looks_like_feed(b'{"articles": []}')


# The recorded feeds ------------------------------------------------------------------------

FEEDS = sorted(
    [*RECORDED.glob("feedjira/*"), *RECORDED.glob("rss-parser/input/*")], key=lambda path: path.name
)


@here
def test_there_are_25_recorded_feeds() -> None:
    assert len(FEEDS) == 25


@here
@pytest.mark.parametrize("path", FEEDS, ids=lambda path: path.name)
def test_every_recorded_feed_gives_something_or_a_reason(path: Path) -> None:
    if path.name == "unrecognized.rss":
        with pytest.raises(InputError, match="not a feed"):
            collect(read_path(path))
        return
    batch = collect(read_path(path))
    assert batch.articles or batch.dropped
    for article in batch.articles:
        assert article.text
        assert "\ufffd" not in article.title + article.text
        assert article.url.startswith(("http://", "https://"))


@here
@pytest.mark.parametrize(
    "expected", sorted(RECORDED.glob("rss-parser/expected/*.json")), ids=lambda path: path.stem
)
def test_a_recorded_feed_agrees_with_what_another_parser_makes_of_it(expected: Path) -> None:
    raw = expected.read_bytes()
    encoding = "latin-1" if expected.stem == "encoding" else "utf-8"
    items = json.loads(raw.decode(encoding))["feed"]["items"]
    (path,) = RECORDED.glob(f"rss-parser/input/{expected.stem}.*")
    found = [one for one in read_path(path) if not isinstance(one, Note)]
    assert len(found) == len(items)
    for ours, theirs in zip(found, items, strict=True):
        if not isinstance(ours, Article):
            assert not theirs.get("contentSnippet")
            continue
        title = one_line(html_to_text(theirs.get("title", "")))
        if "\ufffd" not in title:  # the peer reads every feed as UTF-8
            assert ours.title == title
        if "feedproxy" not in theirs["link"] and "feeds." not in theirs["link"]:
            assert ours.url == theirs["link"]
        assert ours.published[:19] == theirs.get("isoDate", "")[:19]
