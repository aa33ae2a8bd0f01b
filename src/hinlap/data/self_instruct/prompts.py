"""What a model is asked, in English and Thai: for new instructions, whether one is a
classification, for an example of it, or for whole tasks at once.

After Wang et al. (2022), appendix A, and Alpaca's prompt: the steps and what each is shown are
theirs, the words are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hinlap.core.messages import Message, Prompt
from hinlap.data.self_instruct.seeds import SeedTask

Language = Literal["en", "th"]


@dataclass(frozen=True, slots=True)
class Steer:
    """What new tasks are to be about, or who would ask them; "" for neither."""

    topic: str = ""
    persona: str = ""


@dataclass(frozen=True, slots=True)
class _Words:
    """The texts of one language; braces are filled in."""

    tasks: str
    tasks_from_nothing: str
    whole: str
    topic: str
    persona: str
    classification: str
    example: str
    labelled: str
    task: str
    input: str
    output: str
    label: str
    none: str
    yes: str
    no: str
    answer: str
    judged: tuple[tuple[str, bool], ...]
    examples: tuple[tuple[str, str, str], ...]
    labelled_examples: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


_WORDS: dict[Language, _Words] = {
    "en": _Words(
        tasks="Here are {known} tasks that people gave an assistant which reads and writes text. "
        "Think of {wanted} new ones. They should be unlike these and unlike each other in subject, "
        "in verb and in form: questions and commands, short and long. Each must make sense on its "
        "own and must be possible with text alone.{steer} Write one task a line, with numbers "
        "from {first} to {last}, and nothing else.",
        tasks_from_nothing="Think of {wanted} tasks for an assistant which reads and writes text. "
        "They should be unlike each other in subject, in verb and in form: questions and commands, "
        "short and long. Each must make sense on its own and must be possible with text alone."
        "{steer} Write one task a line, with numbers from {first} to {last}, and nothing else.",
        whole="Write {wanted} new tasks for an assistant which reads and writes text, each with "
        "its answer. They should be unlike each other in subject, in verb and in form. The input "
        "is a concrete text that the task works on, under 100 words; where a task needs none, "
        "write: {none}. The output is right and complete.{steer} Keep the form of the tasks below.",
        topic=" All of them are about this topic: {topic}.",
        persona=" All of them are what this person would ask for: {persona}.",
        classification="A task is a classification when its answer is one of a few labels that "
        "are known beforehand. Say for the last task whether it is one: Yes or No.",
        example="Write one example of the last task: the input that it works on, and the right "
        "output. Where the task needs no input, write: {none}. Keep the form of the others.",
        labelled="The last task has a few possible labels as its answer. For each label, write "
        "the label and then an input that it is right for. Keep the form of the others.",
        task="Task", input="Input", output="Output", label="Label", none="none",
        yes="Yes", no="No", answer="Answer",
        judged=(
            ("Tell whether this restaurant review is friendly or angry.", True),
            ("Write a letter to a neighbour about a noisy party.", False),
            ("Which of these three subjects is the book about: law, cooking or travel?", True),
            ("How long should rice be boiled?", False),
            ("Are these two sentences about the same event? Answer yes or no.", True),
            ("Shorten the report to two sentences.", False),
        ),
        examples=(
            ("Put the words in alphabetical order.", "pear, fig, apple", "apple, fig, pear"),
            ("Give two reasons to go to work by bicycle.", "",
             "It keeps you fit, and it costs almost nothing."),
        ),
        labelled_examples=(
            ("Is the statement about numbers right or wrong?",
             (("right", "Twelve is three times four."), ("wrong", "Ten is less than seven."))),
        ),
    ),
    "th": _Words(
        tasks="ต่อไปนี้คืองาน {known} ข้อที่คนสั่งให้ผู้ช่วยซึ่งอ่านและเขียนข้อความได้ ช่วยคิดงานใหม่อีก {wanted} "
        "ข้อเป็นภาษาไทย "
        "ให้ต่างจากงานเหล่านี้และต่างกันเองทั้งเรื่อง คำกริยา และรูปแบบ มีทั้งคำถามและคำสั่ง ทั้งสั้นและยาว "
        "แต่ละข้อต้องเข้าใจได้ในตัวเองและทำได้ด้วยข้อความล้วน{steer} เขียนข้อละหนึ่งบรรทัด ใส่เลข {first} ถึง "
        "{last} "
        "และไม่ต้องเขียนอย่างอื่น",
        tasks_from_nothing="ช่วยคิดงาน {wanted} ข้อเป็นภาษาไทยสำหรับผู้ช่วยซึ่งอ่านและเขียนข้อความได้ "
        "ให้ต่างกันทั้งเรื่อง คำกริยา และรูปแบบ มีทั้งคำถามและคำสั่ง ทั้งสั้นและยาว "
        "แต่ละข้อต้องเข้าใจได้ในตัวเองและทำได้ด้วยข้อความล้วน{steer} เขียนข้อละหนึ่งบรรทัด ใส่เลข {first} ถึง "
        "{last} "
        "และไม่ต้องเขียนอย่างอื่น",
        whole="เขียนงานใหม่ {wanted} ข้อเป็นภาษาไทยสำหรับผู้ช่วยซึ่งอ่านและเขียนข้อความได้ พร้อมคำตอบของแต่ละข้อ "
        "ให้ต่างกันทั้งเรื่อง คำกริยา และรูปแบบ ข้อมูลเข้าคือข้อความจริงที่งานนั้นใช้ ไม่เกิน 100 คำ "
        "ถ้างานไม่ต้องใช้ข้อมูล ให้เขียนว่า {none} ผลลัพธ์ต้องถูกและครบ{steer} ใช้รูปแบบเดียวกับงานข้างล่าง",
        topic=" ทุกข้อเกี่ยวกับหัวข้อนี้: {topic}",
        persona=" ทุกข้อเป็นสิ่งที่คนคนนี้จะขอ: {persona}",
        classification="งานเป็นการจำแนกประเภทเมื่อคำตอบเป็นป้ายหนึ่งในไม่กี่ป้ายที่รู้ล่วงหน้า "
        "บอกว่างานสุดท้ายเป็นการจำแนกประเภทหรือไม่ "
        "ตอบว่า ใช่ หรือ ไม่",
        example="เขียนตัวอย่างหนึ่งตัวอย่างของงานสุดท้าย: ข้อมูลที่งานใช้ และผลลัพธ์ที่ถูก ถ้างานไม่ต้องใช้ข้อมูล "
        "ให้เขียนว่า {none} "
        "ใช้รูปแบบเดียวกับงานอื่น",
        labelled="คำตอบของงานสุดท้ายเป็นป้ายหนึ่งในไม่กี่ป้าย สำหรับแต่ละป้าย ให้เขียนป้ายนั้น "
        "แล้วเขียนข้อมูลที่ป้ายนั้นถูกต้อง "
        "ใช้รูปแบบเดียวกับงานอื่น",
        task="งาน", input="ข้อมูล", output="ผลลัพธ์", label="ป้าย", none="ไม่มี",
        yes="ใช่", no="ไม่", answer="คำตอบ",
        judged=(
            ("บอกว่าความเห็นเกี่ยวกับร้านอาหารนี้ชมหรือตำหนิ", True),
            ("เขียนจดหมายถึงเพื่อนบ้านเรื่องงานเลี้ยงเสียงดัง", False),
            ("หนังสือเล่มนี้เกี่ยวกับเรื่องใด: กฎหมาย อาหาร หรือการเดินทาง", True),
            ("ต้มข้าวควรใช้เวลานานเท่าไร", False),
            ("สองประโยคนี้พูดถึงเหตุการณ์เดียวกันหรือไม่ ตอบว่าใช่หรือไม่", True),
            ("ย่อรายงานให้เหลือสองประโยค", False),
        ),
        examples=(
            ("เรียงคำตามลำดับพจนานุกรม", "ปลา กา มด", "กา ปลา มด"),
            ("บอกเหตุผลสองข้อที่ควรปั่นจักรยานไปทำงาน", "", "ได้ออกกำลังกาย และแทบไม่เสียค่าใช้จ่าย"),
        ),
        labelled_examples=(
            ("ข้อความเกี่ยวกับตัวเลขนี้ถูกหรือผิด",
             (("ถูก", "สิบสองเท่ากับสามคูณสี่"), ("ผิด", "สิบน้อยกว่าเจ็ด"))),
        ),
    ),
}  # fmt: skip


def ask_instructions(
    shown: Sequence[str], wanted: int, language: Language, steer: Steer = Steer()
) -> Prompt:
    """For a numbered list of ``wanted`` instructions that goes on after those shown."""
    w = _WORDS[language]
    head = (w.tasks if shown else w.tasks_from_nothing).format(
        known=len(shown),
        wanted=wanted,
        first=len(shown) + 1,
        last=len(shown) + wanted,
        steer=_steered(w, steer),
    )
    lines = [f"{number}. {_one_line(text)}" for number, text in enumerate(shown, 1)]
    return _user("\n".join([head, "", *lines]) if lines else head)


def ask_classification(instruction: str, language: Language) -> Prompt:
    """For yes or no."""
    w = _WORDS[language]
    parts = [w.classification]
    parts += [
        f"{w.task}: {task}\n{w.answer}: {w.yes if is_one else w.no}" for task, is_one in w.judged
    ]
    parts.append(f"{w.task}: {_one_line(instruction)}\n{w.answer}:")
    return _user("\n\n".join(parts))


def ask_example(instruction: str, shown: Sequence[SeedTask], language: Language) -> Prompt:
    """For one input and output, input first; ``shown`` are solved tasks, the first instance of
    each. Without any, built-in ones stand there."""
    w = _WORDS[language]
    solved = [(task.instruction, *task.instances[0]) for task in shown] or w.examples
    parts = [w.example.format(none=w.none)]
    parts += [_solved(w, *task) for task in solved]
    parts.append(f"{w.task}: {_one_line(instruction)}\n")
    return _user("\n\n".join(parts))


def ask_labelled(instruction: str, shown: Sequence[SeedTask], language: Language) -> Prompt:
    """For the labels of a classification task, each before an input that it is right for: written
    the other way round, models give nearly all inputs the same label (Wang et al., 2.2)."""
    w = _WORDS[language]
    own = [(t.instruction, tuple((out, inp) for inp, out in t.instances if inp)) for t in shown]
    parts = [w.labelled]
    for task, pairs in [pair for pair in own if pair[1]] or w.labelled_examples:
        lines = [f"{w.label}: {label}\n{w.input}: {text}" for label, text in pairs]
        parts.append("\n".join([f"{w.task}: {_one_line(task)}", *lines]))
    parts.append(f"{w.task}: {_one_line(instruction)}\n")
    return _user("\n\n".join(parts))


def ask_whole_tasks(
    shown: Sequence[SeedTask], wanted: int, language: Language, steer: Steer = Steer()
) -> Prompt:
    """For ``wanted`` tasks with input and output in one answer, as Alpaca asks."""
    w = _WORDS[language]
    head = w.whole.format(wanted=wanted, none=w.none, steer=_steered(w, steer))
    solved = [(task.instruction, *task.instances[0]) for task in shown] or w.examples
    return _user("\n###\n".join([head, *(_solved(w, *task) for task in solved)]) + "\n###")


def written_example(input_text: str, output: str, language: Language) -> str:
    """An example in the form that `ask_example` asks for: what a model weighs."""
    w = _WORDS[language]
    return f"{w.input}: {input_text or w.none}\n{w.output}: {output}"


def _solved(w: _Words, task: str, input_text: str, output: str) -> str:
    return f"{w.task}: {_one_line(task)}\n{w.input}: {input_text or w.none}\n{w.output}: {output}"


def _steered(w: _Words, steer: Steer) -> str:
    topic = w.topic.format(topic=steer.topic) if steer.topic else ""
    return topic + (w.persona.format(persona=steer.persona) if steer.persona else "")


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(":")


def _user(text: str) -> Prompt:
    return Prompt((Message("user", text),))
