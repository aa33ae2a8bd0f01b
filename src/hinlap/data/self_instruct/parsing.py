"""Reading what a model wrote when it was asked for tasks. What cannot be read is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hinlap.data.self_instruct.filters import Instance

_ITEM = re.compile(r"^[ \t]*(?:\*\*)?(?:\d+[ \t]*[.):]|[-*•])(?:\*\*)?[ \t]+", re.MULTILINE)
_TASK = re.compile(r"^(?:task|instruction|งาน|คำสั่ง)(?:[ \t]*\d+)?[ \t]*:[ \t]*", re.IGNORECASE)
_LABELS = {
    "instruction": "task", "task": "task", "งาน": "task", "คำสั่ง": "task",
    "input": "input", "ข้อมูล": "input", "ข้อมูลเข้า": "input",
    "output": "output", "answer": "output", "คำตอบ": "output", "ผลลัพธ์": "output",
    "label": "label", "class label": "label", "ป้าย": "label", "ป้ายกำกับ": "label",
}  # fmt: skip
_LABEL = re.compile(
    rf"^[ \t]*(?:[#>*]+[ \t]*)?(?:\d+[ \t]*[.)][ \t]*)?(?:\*\*)?"
    rf"({'|'.join(sorted(_LABELS, key=len, reverse=True))})(?:[ \t]*\d+)?(?:\*\*)?[ \t]*:"
    rf"(?:\*\*)?[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"(?:\n|\A)[ \t]*(?:#{3,}|-{3,})\s*\Z")
"""A line that parts tasks, at the end of one."""
_NOTHING = frozenset(
    ("none", "n/a", "na", "-", "no input", "no input needed", "noinput", "<noinput>", "(none)",
     "[none]", "empty", "ไม่มี", "(ไม่มี)", "ไม่มีข้อมูล", "ไม่มีข้อมูลเข้า")
)  # fmt: skip
_YES, _NO = ("yes", "ใช่"), ("no", "ไม่")


def read_instructions(text: str, *, cut: bool) -> list[str]:
    """The items of a numbered or bulleted list, each on one line; what stands before the first is
    no item.

    cut: the answer ended for length, so its last item is not whole and is left out.

    >>> read_instructions("Sure! Here they are:\\n9. Name a river.\\n10) Task: Sort\\nthese.",
    ...                   cut=False)
    ['Name a river.', 'Sort these.']
    """
    starts = list(_ITEM.finditer(text))
    items = []
    for start, end in _spans(starts, text):
        paragraph = re.split(r"\n[ \t]*\n", text[start.end() : end], maxsplit=1)[0]
        line = " ".join(paragraph.split())
        items.append(_unquoted(_TASK.sub("", line)))
    if cut:
        items = items[:-1]
    return [item for item in items if item]


def read_yes(text: str) -> bool | None:
    """Whether an answer says yes; None where it says neither yes nor no.

    >>> read_yes(" Yes, it is."), read_yes("No"), read_yes("ใช่ครับ"), read_yes("ไม่ใช่"), read_yes("7")
    (True, False, True, False, None)
    """
    said = re.sub(r"^[\s*\"'`:]+", "", text).lower()
    said = re.sub(r"^(?:answer|คำตอบ)\s*:\s*", "", said)
    if said.startswith(_NO) and not re.match(r"no[a-z]", said):
        return False
    if said.startswith(_YES) and not re.match(r"yes[a-z]", said):
        return True
    return None


def read_example(text: str, *, cut: bool) -> Instance | None:
    """The input and output of an answer that writes them one after the other; None where there is
    no output, or it was cut.

    >>> read_example("Input: none\\nOutput: 42\\n\\nTask: and so on", cut=False)
    Instance(input='', output='42')
    """
    found: dict[str, str] = {}
    sections = _sections(text)
    for place, (label, content) in enumerate(sections):
        if label in found or (label == "task" and found):
            break  # a second example or task follows
        if not (cut and place == len(sections) - 1):
            found[label] = content
    if "output" not in found:
        return None
    return Instance(_or_nothing(found.get("input", "")), found["output"])


def read_labelled(text: str, *, cut: bool) -> list[Instance]:
    """The examples of a classification task, each as a label with the input it belongs to.

    >>> read_labelled("Label: good\\nInput: I liked it.\\nLabel: bad\\nInput: Never again.",
    ...               cut=False)
    [Instance(input='I liked it.', output='good'), Instance(input='Never again.', output='bad')]
    """
    found: list[Instance] = []
    label = ""
    sections = _sections(text)
    for place, (name, content) in enumerate(sections):
        if (name == "task" and found) or (cut and place == len(sections) - 1):
            break
        if name in ("label", "output"):
            label = content
        elif name == "input" and label:
            found.append(Instance(_or_nothing(content), label))
            label = ""
    return found


def read_whole_tasks(text: str, *, cut: bool) -> tuple[list[tuple[str, Instance]], int]:
    """(instruction, instance) of each task that an answer writes in full, and how many of those
    begun are not whole.

    >>> read_whole_tasks("Task: Add.\\nInput: 1, 2\\nOutput: 3\\n###\\nTask: Sub", cut=False)
    ([('Add.', Instance(input='1, 2', output='3'))], 1)
    """
    tasks: list[dict[str, str]] = []
    for label, content in _sections(text):
        if label == "task" or not tasks:
            tasks.append({})
        tasks[-1].setdefault(label, content)
    whole = []
    for place, parts in enumerate(tasks):
        last = cut and place == len(tasks) - 1
        if parts.get("task") and "output" in parts and not last:
            instruction = _unquoted(" ".join(parts["task"].split()))
            instance = Instance(_or_nothing(parts.get("input", "")), parts["output"])
            whole.append((instruction, instance))
    return whole, len(tasks) - len(whole)


def read_sections(text: str) -> dict[str, str]:
    """The first text under each of the labels task, input and output that an answer has."""
    found: dict[str, str] = {}
    for label, content in _sections(text):
        found.setdefault(label, content)
    if "input" in found:
        found["input"] = _or_nothing(found["input"])
    return found


def _sections(text: str) -> list[tuple[str, str]]:
    """(label, what stands under it) in order. After "Output:" a line "Answer:" is part of it."""
    starts: list[re.Match[str]] = []
    for start in _LABEL.finditer(text):
        label, word = _LABELS[start.group(1).lower()], start.group(1).lower()
        before = starts[-1].group(1).lower() if starts else ""
        if not (label == "output" and word != before and _LABELS.get(before) == "output"):
            starts.append(start)
    return [
        (_LABELS[start.group(1).lower()], _content(text[start.end() : end]))
        for start, end in _spans(starts, text)
    ]


def _content(text: str) -> str:
    """What stands under a label; small models write the label twice."""
    text = _FENCE.sub("", text).strip()
    again = _LABEL.match(text)
    return text[again.end() :].strip() if again else text


def _spans(starts: list[re.Match[str]], text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Each beginning and where the next is, or the text's end."""
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return zip(starts, ends, strict=False)  # without a beginning there is no end


def _or_nothing(text: str) -> str:
    return "" if text.strip().rstrip(".").lower() in _NOTHING else text


def _unquoted(text: str) -> str:
    text = text.strip().removeprefix("**").removesuffix("**").strip()
    for opening, closing in ('""', "“”", "''"):
        inner = text[1:-1]
        if len(text) > 2 and text[0] == opening and text[-1] == closing and opening not in inner:
            return inner.strip()
    return text
