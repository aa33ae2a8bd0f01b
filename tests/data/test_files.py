from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from hinlap.core.errors import InputError
from hinlap.data.sources.article import (
    Article,
    Found,
    canonical_url,
    collect,
    decode,
    iso_date,
    make_article,
    redact,
    tidy,
)
from hinlap.data.sources.files import read_path

DATA = Path(__file__).parents[2].parent / "shared/data"


def write(path: Path, content: str | bytes | Sequence[object]) -> Path:
    if isinstance(content, str):
        content = content.encode()
    elif not isinstance(content, bytes):
        content = b"".join(json.dumps(row).encode() + b"\n" for row in content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def reasons(path: Path) -> list[tuple[str, str]]:
    return [
        (drop.where.removeprefix(str(path)).lstrip(", "), drop.reason)
        for drop in collect(read_path(path)).dropped
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_rows_of_a_jsonl_file_become_articles(tmp_path: Path, name: str) -> None:
    rows = [
        {"id": 7, "headline": "H", "article": "A", "date": "03 Aug 2017,Thursday", "author": "X"},
        {"title": "T", "text": "B", "url": "https://a.example/b", "category": "sport"},
        {"Title": "U", "description": "last", "content": ["one", "two"]},
        {"text": "no title"},
    ]
    batch = collect(read_path(write(tmp_path / name, rows)))
    assert batch.articles[0] == Article("7", "H", "A", published="2017-08-03")
    assert batch.articles[1].topic == "sport"
    assert [article.text for article in batch.articles] == ["A", "B", "one\n\ntwo", "no title"]
    assert [note.partition(": ")[2] for note in batch.notes] == ["fields not kept: author"]


def test_bad_rows_are_told_by_line_and_the_good_ones_go_on(tmp_path: Path) -> None:
    lines = [
        b"\xef\xbb\xbf" + json.dumps({"title": "A", "text": "first"}).encode(),
        b"{broken",
        b'{"text": "caf\xe9"}',
        b"[1, 2]",
        b"",
        b'{"title": "only"}',
        b'{"name": "x"}',
        b"[" * 100_000,
        '{"title": "Z", "text": "a\u2028b\u0085c"}'.encode(),
    ]
    path = write(tmp_path / "a.jsonl", b"\r\n".join(lines))
    assert [article.title for article in collect(read_path(path)).articles] == ["A", "Z"]
    assert reasons(path) == [
        ("line 2", "broken JSON (Expecting property name enclosed in double quotes, column 2)"),
        ("line 3", "not UTF-8 (byte 14 of the line)"),
        ("line 4", "not an object"),
        ("line 6", "no text"),
        ("line 7", "no title or text among its fields (name)"),
        ("line 8", "JSON that cannot be read (too deep or a number too long)"),
    ]


def test_a_gzip_file_that_was_cut_off_keeps_what_it_holds(tmp_path: Path) -> None:
    rows = b"".join(b'{"text": "story %d"}\n' % number for number in range(3000))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(rows)[:-1000])
    had: list[Found] = []
    with pytest.raises(InputError, match="cut off"):
        for item in read_path(path):
            had.append(item)
    assert len(had) > 500


def test_csv_is_read_with_its_own_delimiter_and_encoding(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv", 'Titel;title;text\nx;"Über";"eins\nzwei; ""drei"""\n'.encode("cp1252")
    )
    batch = collect(read_path(path))
    assert (batch.articles[0].title, batch.articles[0].text) == ("Über", 'eins\nzwei; "drei"')
    assert "cp1252" in batch.notes[0]
    tabs = write(tmp_path / "b.tsv", "title\ttext\nข่าว\tน้ำท่วม 🎉\n")
    assert collect(read_path(tabs)).articles[0].text == "น้ำท่วม 🎉"


def test_bad_csv_rows_are_told_by_line(tmp_path: Path) -> None:
    rows = 'title,text\na,one,two,three\nb,"ok\nstill ok"\nc,\nd,"good"\ne,"never closed\nf,g\n'
    path = write(tmp_path / "a.csv", rows)
    assert [article.title for article in collect(read_path(path)).articles] == ["b", "d"]
    assert reasons(path) == [
        ("line 2", "4 cells, but the first line names 2"),
        ("line 5", "no text"),
        ("line 7", "a quote that opens here is never closed"),
    ]


def test_a_csv_without_a_column_for_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no column"):
        collect(read_path(write(tmp_path / "a.csv", "a,b\n1,2\n")))


def test_a_text_file_is_an_article_with_its_first_line_as_title(tmp_path: Path) -> None:
    assert collect(read_path(write(tmp_path / "a.txt", "T\n\nOne.\n\nTwo.\n"))).articles[0] == (
        make_article("T", "One.\n\nTwo.")
    )
    assert collect(read_path(write(tmp_path / "a.md", "# T\nOne."))).articles[0].title == "T"
    assert collect(read_path(write(tmp_path / "b.txt", "Alone."))).articles[0].text == "Alone."
    long = "word " * 100
    assert collect(read_path(write(tmp_path / "c.txt", f"{long}\nmore"))).articles[0].title == ""
    thai = write(tmp_path / "d.txt", "ข่าว\nน้ำท่วมกรุงเทพมหานครอีกครั้งในรอบสิบปี".encode("cp874"))
    batch = collect(read_path(thai))
    assert batch.articles[0].text == "น้ำท่วมกรุงเทพมหานครอีกครั้งในรอบสิบปี"
    assert "cp874" in batch.notes[0]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.xml", "a.html"])
def test_an_empty_file_says_so(tmp_path: Path, name: str) -> None:
    batch = collect(read_path(write(tmp_path / name, b"")))
    assert batch.articles == ()
    assert batch.notes == (f"{tmp_path / name}: the file is empty",)


def test_json_may_be_a_list_an_object_or_a_recorded_answer(tmp_path: Path) -> None:
    row = {"title": "T", "text": "X"}
    recorded = {"status": "ok", "totalResults": 1, "articles": [{"title": "T", "content": "X"}]}
    for body in ([row], row, {"data": [row]}, recorded):
        path = write(tmp_path / "a.json", json.dumps(body))
        assert collect(read_path(path)).articles[0].text == "X"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "line 1, column 2"),
        ('"x"', "neither a list nor an object"),
        ('{"status": "error", "code": "apiKeyInvalid"}', "apiKeyInvalid"),
    ],
)
def test_json_that_cannot_be_used_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        collect(read_path(write(tmp_path / "a.json", content)))


def test_rows_of_newsapi_lose_the_mark_of_the_cut(tmp_path: Path) -> None:
    row = {"title": "T", "content": "Body… [+99 chars]", "publishedAt": "2024-05-01T10:00:00Z"}
    batch = collect(read_path(write(tmp_path / "a.jsonl", [row])))
    assert batch.articles[0].text == "Body"
    assert "cut" in batch.notes[0]


def test_html_in_a_row_is_taken_out_and_noted(tmp_path: Path) -> None:
    rows = [{"text": "<p>A &amp; B</p><p>C</p>"}, {"text": "1 < 2 and 3 > 2"}]
    batch = collect(read_path(write(tmp_path / "a.jsonl", rows)))
    assert [article.text for article in batch.articles] == ["A & B\n\nC", "1 < 2 and 3 > 2"]
    assert "HTML" in batch.notes[0]


def test_a_folder_is_read_whole_and_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b/one.txt", "T\nB one")
    write(tmp_path / "a.jsonl", [{"text": "A"}])
    write(tmp_path / "b/two.json", "{broken")
    write(tmp_path / "c.pdf", b"%PDF")
    write(tmp_path / ".hidden/x.txt", "hidden")
    batch = collect(read_path(tmp_path))
    assert [article.text for article in batch.articles] == ["A", "B one"]
    assert [drop.reason.partition(" (")[0] for drop in batch.dropped] == [
        "not a kind of file that articles are read from",
        "broken JSON",
    ]


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", write(tmp_path / "a.pdf", b"")):
        with pytest.raises(InputError, match=path.name):
            collect(read_path(path))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\x00b\x07c", "abc"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        ("it\x92s", "it\u2019s"),
        ("cafe\u0301", "café"),
        ("กำลัง น้ำ", "กำลัง น้ำ"),
        ("👩\u200d👧 🇹🇭", "👩\u200d👧 🇹🇭"),
        (" a \u00a0 b\u2028c\r\n\r\n \r\n\r\nd ", "a b\nc\n\nd"),
    ],
)
def test_texts_are_tidied(given: str, kept: str) -> None:
    assert tidy(given) == kept


@pytest.mark.parametrize(
    "other",
    [
        "http://www.paper.example/a/ข่าว?b=2&a=1",
        "https://paper.example:443/a/%E0%B8%82%e0%b9%88%E0%B8%B2%E0%B8%A7/?a=1&b=2",
        "https://PAPER.example/a/ข่าว?a=1&b=2&utm_source=x&fbclid=y&gclid=z#top",
    ],
)
def test_addresses_of_one_article_are_equal(other: str) -> None:
    assert canonical_url(other) == canonical_url("https://paper.example/a/ข่าว?a=1&b=2")


def test_addresses_of_different_articles_are_not() -> None:
    urls = [
        "https://a.example/x", "https://a.example/X", "https://a.example/x?id=1",
        "https://a.example/x?id=2", "https://b.a.example/x", "https://a.example:8080/x",
    ]  # fmt: skip
    assert len({canonical_url(url) for url in urls}) == len(urls)
    for none in ("", "https://a.example/", "mailto:x@y", "http://[", "http://a:b/x"):
        assert canonical_url(none) == ""


def test_keys_in_addresses_are_hidden() -> None:
    url = "https://u:p@a.example/f?apiKey=K1&x=1&access_token=K2&key=0123456789abcdef0#t"
    assert redact(url) == "https://***@a.example/f?apiKey=***&x=1&access_token=***&key=***#t"
    assert (
        redact("https://a.example/f?keyword=tea&key=3") == "https://a.example/f?keyword=tea&key=3"
    )


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        ("2024-05-01", "2024-05-01"),
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00+00:00"),
        ("Wed, 03 Jan 2018 13:47:00 +0100", "2018-01-03T13:47:00+01:00"),
        ("May 1, 2024", "2024-05-01"),
        ("yesterday", ""),
        ("2024-13-45", ""),
        ("", ""),
    ],
)
def test_dates_become_iso_or_nothing(value: str, iso: str) -> None:
    assert iso_date(value) == iso


@pytest.mark.parametrize(
    ("text", "encoding", "declared"),
    [
        ("Сегодня в Москве прошла встреча министров иностранных дел", "cp1251", ""),
        ("Die Straßen in München waren gestern übervoll, größtenteils fröhlich", "cp1252", ""),
        ("今天外交部长会议在北京举行.部长们讨论了欧洲的未来。", "gb18030", "gb2312"),
        ("東京都は今日、新しい条例を発表しました。", "iso2022_jp", "iso-2022-jp"),
        ("น้ำท่วม", "utf-16", ""),
        ("กรุงเทพฯ น้ำท่วมอีกครั้ง", "cp874", ""),
        ("오늘 서울에서 외무장관 회의가 열렸다", "cp949", ""),
        ("今天外交部長會議在台北舉行, 部長們討論了歐洲的未來", "big5", ""),
        (
            "Včera se v Praze sešli ministři zahraničních věcí, kteří mluvili o budoucnosti "
            "Evropy. Žádný z nich nechtěl říci více. Příští týden přijedou další.",
            "cp1250",
            "",
        ),
    ],
)
def test_bytes_are_decoded(text: str, encoding: str, declared: str) -> None:
    assert decode(text.encode(encoding), declared)[0] == text


@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")
@pytest.mark.parametrize(
    ("name", "articles"),
    [("news-inshorts/news_summary.jsonl.gz", 296), ("thai-news/thaigov_news.jsonl.gz", 360)],
)
def test_the_shared_articles_are_all_read(name: str, articles: int) -> None:
    batch = collect(read_path(DATA / name))
    assert len(batch.articles) + len(batch.dropped) == articles
    assert all(article.published for article in batch.articles)
