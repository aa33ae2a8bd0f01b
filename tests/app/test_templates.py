from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.app.templates import TemplateProblem, check_template, render_template

ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ text['__class__'] }}",
    "{{ text|attr('__class__') }}",
    "{{ text|attr('_' ~ '_class_' ~ '_') }}",
    "{{ text['__cla' ~ 'ss__'] }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ '{0.__class__.__mro__}'.format(text) }}",
    "{{ '{x.__class__}'.format_map({'x': text}) }}",
    "{{ text.format.__globals__ }}",
    "{{ (text.upper).__self__.__class__ }}",
    "{% set c = text.__class__ %}{{ c }}",
    "{% for c in ''.__class__.__subclasses__() %}{{ c }}{% endfor %}",
    "{{ [text]|map(attribute='__class__')|list }}",
    "{{ [].append(1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'base' %}",
    "{{ range(999999999) }}",
]


def attempt(source: str) -> str:
    """What loading and then rendering a template gives."""
    check_template(source, ["text"])
    return render_template(source, {"text": "hello"})


@pytest.mark.parametrize("source", ESCAPES)
def test_no_way_out_of_the_sandbox(source: str) -> None:
    try:
        shown = attempt(source)
    except TemplateProblem:
        return
    assert "class" not in shown, shown


@pytest.mark.parametrize("source", [ESCAPES[0], ESCAPES[1], ESCAPES[5], ESCAPES[17]])
def test_a_plain_escape_is_refused_before_anything_runs(source: str) -> None:
    with pytest.raises(TemplateProblem):
        check_template(source, ["text"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ text.nosuch }}", "has no attribute 'nosuch'"),
        ("{{ text.split()[9] }}", "has no element 9"),
        ("{{ text + 1 }}", "can only concatenate"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
        ("{% for i in range(999999) %}{% endfor %}", "Range too big"),
    ],
)
def test_what_fails_while_running_is_one_problem_with_its_reason(source: str, reason: str) -> None:
    with pytest.raises(TemplateProblem, match=f"the template failed: .*{reason}"):
        attempt(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ text", "does not parse"),
        ("{% if text %}x", "does not parse"),
        ("{{ text|nosuch }}", "No filter named 'nosuch'"),
        ("{{ text is nosuch }}", "No test named 'nosuch'"),
        ("a\nb {{ text }", r"line 2 of the template"),
        ("{{ headline }}", "names 'headline', but this step can only see text"),
        ("{{ b }}{{ a }}", "names 'a', 'b'"),
    ],
)
def test_a_template_is_checked_without_running_it(source: str, reason: str) -> None:
    with pytest.raises(TemplateProblem, match=reason):
        check_template(source, ["text"])


@pytest.mark.parametrize("source", ["{{ text|random }}", "{{ lipsum() }}"])
def test_nothing_in_a_template_is_drawn_by_chance(source: str) -> None:
    with pytest.raises(TemplateProblem):
        check_template(source, ["text"])


def test_loops_and_conditions_work() -> None:
    source = "{% for word in text.split() if word != 'b' %}{{ loop.index }}{{ word }} {% endfor %}"
    assert render_template(source, {"text": "a b c"}) == "1a 2c"


def test_a_name_set_in_the_template_is_known() -> None:
    check_template("{% set short = text[:3] %}{{ short }}", ["text"])


def test_outer_blank_space_is_removed() -> None:
    assert render_template("\n  {{ text }}\n\n", {"text": "a\nb"}) == "a\nb"


def test_markup_in_an_article_is_not_escaped() -> None:
    assert render_template("{{ text }}", {"text": "<b>R&D</b>"}) == "<b>R&D</b>"


def test_thai_and_emoji_go_through_whole() -> None:
    assert render_template("สรุป: {{ text }}", {"text": "น้ำท่วม 🌊 ก่ำ"}) == "สรุป: น้ำท่วม 🌊 ก่ำ"


@given(st.text(st.sampled_from("{}%#'\" 7*ก่a_.|\n")))
def test_an_article_is_never_run_as_a_template(text: str) -> None:
    assert render_template("<{{ text }}>", {"text": text}) == f"<{text}>"


def test_a_name_in_thai_can_be_used() -> None:
    check_template("สรุป {{ เนื้อข่าว }}", ["เนื้อข่าว"])
    assert render_template("สรุป {{ เนื้อข่าว }}", {"เนื้อข่าว": "ฝนตก"}) == "สรุป ฝนตก"
