"""Formats: recognised by their columns, read, written, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinlap.core.rows import Row
from hinlap.data.formats.record import Unfit
from hinlap.data.formats.table import FORMATS, recognised


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "Be brief."}
ALPACA = {"instruction": "Add.", "input": "1, 2", "output": "3"}
DOLLY = {"instruction": "Add.", "context": "1, 2", "response": "3", "category": "closed_qa"}
MESSAGES = {"messages": [SYSTEM, user("1?"), assistant("2"), user("3?"), assistant("4")]}
SHAREGPT = {
    "id": "s1",
    "conversations": [
        {"from": "system", "value": "Be brief."}, {"from": "human", "value": "1?"},
        {"from": "gpt", "value": "2"}, {"from": "human", "value": "3?"},
        {"from": "gpt", "value": "4"},
    ],
}  # fmt: skip
TEXTS = {"prompt": "Add 1, 2:", "completion": " 3"}
LISTS = {"prompt": [SYSTEM, user("1?")], "completion": [assistant("2")]}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (ALPACA, "alpaca"), (DOLLY, "dolly"), (MESSAGES, "messages"), (SHAREGPT, "sharegpt"),
        (TEXTS, "prompt-completion"), (LISTS, "prompt-completion"),
        ({**ALPACA, "origin": "human"}, "hinlap"), ({"text": "a"}, None),
    ],
)  # fmt: skip
def test_a_format_is_recognised_by_its_columns(record: Mapping[str, Any], name: str | None) -> None:
    found = recognised(record)
    assert (found and found.name) == name


@pytest.mark.parametrize("record", [DOLLY, MESSAGES, SHAREGPT, TEXTS, LISTS])
def test_a_record_written_back_is_what_it_was(record: Mapping[str, Any]) -> None:
    found = recognised(record)
    assert found is not None
    written = found.write(found.read(record))
    assert {name: written[name] for name in record} == record


def test_a_conversation_is_its_last_turn_and_what_came_before() -> None:
    for name, record in (("messages", MESSAGES), ("sharegpt", SHAREGPT)):
        row = FORMATS[name].read(record)
        assert (row.system, row.instruction, row.output) == ("Be brief.", "3?", "4")
        assert row.history == (("1?", "2"),)


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    row = FORMATS["messages"].read({"messages": [user(parts), assistant("c")]})
    assert row.instruction == "a\nb"


def test_messages_in_a_cell_of_csv_are_read() -> None:
    cell = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    assert FORMATS["messages"].read({"messages": cell}).output == "b"


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([user("a")], "the conversation does not end with an answer"),
        ([], "the conversation has no turn"),
        ([SYSTEM], "the conversation has no turn"),
        ([assistant("a")], "turn 1 is by assistant, where user is to speak"),
        ([SYSTEM, user("a"), user("b"), assistant("c")],
         "turn 3 is by user, where assistant is to speak"),
        ([user("a"), {"role": "tool", "content": "x"}, assistant("b")],
         "message 2 belongs to a call of a tool, which a row cannot hold"),
        ([user("a"), assistant(None, tool_calls=[{"id": "1"}])],
         "message 2 belongs to a call of a tool, which a row cannot hold"),
        ([user([{"type": "image_url", "image_url": "x"}]), assistant("b")],
         "message 1 has a part that is no text (image_url)"),
        ([user("a"), assistant(None)], "the content of message 2 is null, not a text"),
        ([{"role": "narrator", "content": "x"}], "message 1 has the role 'narrator'"),
        (["a"], "message 1 is a text, not an object"),
        ("a", "'messages' is a text, not a list of messages"),
    ],
)  # fmt: skip
def test_what_a_row_cannot_hold_is_refused_with_its_reason(turns: Any, reason: str) -> None:
    with pytest.raises(Unfit) as caught:
        FORMATS["messages"].read({"messages": turns})
    assert str(caught.value) == reason


def test_a_turn_by_a_stranger_is_refused() -> None:
    with pytest.raises(Unfit, match="turn 1 is by 'narrator'"):
        FORMATS["sharegpt"].read({"conversations": [{"from": "narrator", "value": "x"}]})


@pytest.mark.parametrize("name", ["alpaca", "dolly"])
def test_one_turn_has_no_room_for_more(name: str) -> None:
    with pytest.raises(Unfit, match="room for one turn"):
        FORMATS[name].write(Row("1", "a", "b", history=(("x", "y"),)))
    with pytest.raises(Unfit, match="no place for it"):
        FORMATS[name].write(Row("1", "a", "b", system="s"))


said = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=10)


@settings(max_examples=50)
@given(
    st.builds(
        Row, id=said, instruction=said, output=said, input=said | st.just(""),
        system=said | st.just(""), history=st.lists(st.tuples(said, said), max_size=2).map(tuple),
    ),
    st.sampled_from(sorted(FORMATS)),
)  # fmt: skip
def test_no_format_changes_what_is_said(row: Row, name: str) -> None:
    known = FORMATS[name]
    try:
        written = known.write(row)
    except Unfit:
        assert name in ("alpaca", "dolly")
        assert row.history or row.system
        return
    assert known.read(written).messages() == row.messages()
