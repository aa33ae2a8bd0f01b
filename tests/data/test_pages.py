from __future__ import annotations

from tests.conftest import serving_pages

from hinlap.data.sources.article import Article, collect, make_article
from hinlap.data.sources.fetch import Fetcher
from hinlap.data.sources.pages import read_page, settle

BODY = (
    "The city council voted on Tuesday to keep the old tram line open for another ten years. "
    "Residents had collected thirty thousand names against the plan to close it in the spring. "
)
PAGE = f"""<!doctype html><html><head><title>Tram stays | The Paper</title>
<meta property="og:title" content="Tram stays"><meta property="og:site_name" content="The Paper">
<meta property="article:published_time" content="2024-05-01T10:00:00Z">
<link rel="canonical" href="https://paper.example/tram"></head>
<body><nav><a href="/">Home</a> <a href="/sport">Sport</a></nav>
<article><h1>Tram stays</h1><p>{BODY}</p><p>{BODY.replace("tram", "bus")}</p></article>
<footer>Copyright The Paper. All rights reserved.</footer><script>track()</script></body></html>"""
THAI = "คณะรัฐมนตรีมีมติเห็นชอบโครงการรถรางสายเก่าให้เปิดเดินรถต่อไปอีกสิบปี ตามคำขอของชาวเมืองทั้งหมด " * 5


def one(data: bytes, charset: str = "") -> Article:
    (article,) = collect(read_page(data, where="x.html", charset=charset)).articles
    return article


def test_a_page_gives_its_article_and_nothing_around_it() -> None:
    article = one(PAGE.encode())
    assert article.title == "Tram stays"
    assert article.text.startswith("The city council")
    assert article.text.count("\n\n") == 1
    assert "Sport" not in article.text
    assert "Copyright" not in article.text
    assert (article.url, article.source) == ("https://paper.example/tram", "The Paper")
    assert article.published.startswith("2024-05-01")


def test_thai_pages_are_read_in_the_encoding_they_declare_or_are_in() -> None:
    head = "<head><meta charset='%s'><title>ข่าว</title></head>"
    html = f"<html>{head}<body><p>{THAI}</p></body></html>"
    for encoding, declared in [("cp874", "windows-874"), ("cp874", "tis-620"), ("utf-8", "utf-8")]:
        assert one((html % declared).encode(encoding)).text == THAI.strip()
    assert one((html % "x").encode("utf-8"), charset="iso-8859-1").text == THAI.strip()
    batch = collect(read_page((html % "utf-8").encode("cp874"), where="x.html"))
    assert batch.articles[0].text == THAI.strip()
    assert batch.notes == ("x.html: declared utf-8 but is not: read as cp874",)


def test_a_page_without_an_article_is_dropped_with_the_reason() -> None:
    for data in (b"", b"<html><body></body></html>", b"<html><body><img src=a></body></html>"):
        batch = collect(read_page(data, where="x.html"))
        assert batch.articles == ()
        assert "no article text" in batch.dropped[0].reason


def test_settling_takes_the_page_where_it_says_more() -> None:
    with serving_pages({"/tram": (200, "text/html", PAGE.encode())}) as url:
        short = make_article("Tram", "The council voted.", url=f"{url}/tram")
        found = settle(short, where="feed, entry 1", fetcher=Fetcher(allow_private=True))
        (article,) = collect(found).articles
    assert article.title == "Tram"
    assert article.text.startswith("The city council")
    assert article.url == f"{url}/tram"
    assert article.id == short.id


def test_a_page_that_fails_costs_only_what_it_would_have_added() -> None:
    fetcher = Fetcher(allow_private=True)
    with serving_pages(
        {"/a": (404, "text/html", b""), "/b": (200, "application/pdf", b"%PDF")}
    ) as url:
        for path, reason in (("/a", "HTTP 404"), ("/b", "application/pdf")):
            with_text = make_article("T", "Text.", url=url + path)
            kept = collect(settle(with_text, where="e", fetcher=fetcher))
            assert kept.articles[0].text == "Text."
            assert reason in kept.notes[0]
            without = make_article("T", "", url=url + path)
            lost = collect(settle(without, where="e", fetcher=fetcher))
            assert lost.articles == ()
            assert reason in lost.dropped[0].reason
