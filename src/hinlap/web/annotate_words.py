"""The annotation page's words in each of its languages, and the guidelines it has of its own."""

from __future__ import annotations

LANGUAGES = ("en", "th")

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Annotate", "เขียนและแก้ตัวอย่าง"),
    "list": ("Rows", "รายการ"),
    "new": ("New row", "แถวใหม่"),
    "undo": ("Undo", "ย้อนกลับ"),
    "report": ("Report", "สรุปผล"),
    "help": ("Keys", "ปุ่มลัด"),
    "other-language": ("ภาษาไทย", "English"),
    "previous": ("Previous", "ก่อนหน้า"),
    "next": ("Next", "ถัดไป"),
    "save": ("Save", "บันทึก"),
    "accept": ("Accept draft", "รับฉบับร่าง"),
    "use": ("Edit draft", "แก้ฉบับร่าง"),
    "skip": ("Skip", "ข้าม"),
    "flag": ("Flag", "ทำเครื่องหมาย"),
    "instruction": ("Instruction", "คำสั่ง"),
    "input": ("Input", "ข้อมูลประกอบ"),
    "input-hint": ("what the instruction is about; may stay empty", "สิ่งที่คำสั่งพูดถึง เว้นว่างได้"),
    "answer": ("Answer", "คำตอบ"),
    "category": ("Category", "หมวด"),
    "draft": ("Draft", "ฉบับร่าง"),
    "draft-by": ("by {model}", "โดย {model}"),
    "draft-leaves": ("rows are sent to another machine", "ข้อมูลถูกส่งไปเครื่องอื่น"),
    "draft-pending": ("being written …", "กำลังเขียน …"),
    "draft-none": ("Write the instruction first.", "เขียนคำสั่งก่อน"),
    "draft-off": (
        "No model: start with --model NAME to have drafts.",
        "ไม่มีโมเดล: เริ่มด้วย --model NAME เพื่อให้มีฉบับร่าง",
    ),
    "draft-failed": ("No draft: {error}", "ไม่มีฉบับร่าง: {error}"),
    "draft-cut": ("cut: the model reached its limit", "ขาดตอน: โมเดลเขียนถึงขีดจำกัด"),
    "draft-stale": ("for the question as it was", "สำหรับคำถามเดิม"),
    "again": ("Draft again", "ร่างใหม่"),
    "guidelines": ("Guidelines", "แนวทาง"),
    "earlier": ("Earlier in this conversation", "บทสนทนาก่อนหน้า"),
    "system": ("System", "ระบบ"),
    "asked": ("Asked", "ถาม"),
    "answered": ("Answered", "ตอบ"),
    "filter": ("Show", "แสดง"),
    "all": ("all", "ทั้งหมด"),
    "todo": ("to do", "ยังไม่ทำ"),
    "done": ("done", "เสร็จแล้ว"),
    "skipped": ("skipped", "ข้ามไว้"),
    "flagged": ("flagged", "มีเครื่องหมาย"),
    "search": ("Search, or #12", "ค้นหา หรือ #12"),
    "no-rows": ("No row like this.", "ไม่มีแถวแบบนี้"),
    "more": ("Show more", "แสดงเพิ่ม"),
    "progress": ("{done} of {total}", "{done} จาก {total}"),
    "row": ("Row {n}", "แถว {n}"),
    "new-row": ("A new row", "แถวใหม่"),
    "saved": ("Saved", "บันทึกแล้ว"),
    "unsaved": ("Not saved", "ยังไม่บันทึก"),
    "saving": ("Saving …", "กำลังบันทึก …"),
    "undone": ("Undone: {action}", "ย้อนกลับแล้ว: {action}"),
    "by": ("{action} by {by}", "{action} โดย {by}"),
    "written": ("written", "เขียนใหม่"),
    "corrected": ("corrected", "แก้ไข"),
    "accepted": ("draft accepted", "รับฉบับร่าง"),
    "kept": ("kept as it was", "คงเดิม"),
    "finished": ("set written", "เขียนชุดข้อมูลแล้ว"),
    "origin-human": ("written by a person", "คนเขียน"),
    "origin-machine": ("written by a machine", "เครื่องเขียน"),
    "origin-derived": ("made from another row", "ทำจากแถวอื่น"),
    "flag-title": ("What is wrong with this row?", "แถวนี้มีปัญหาอะไร"),
    "flag-wrong": ("wrong or misleading", "ผิดหรือชวนเข้าใจผิด"),
    "flag-unclear": ("unclear instruction", "คำสั่งไม่ชัดเจน"),
    "flag-personal": ("personal data", "มีข้อมูลส่วนบุคคล"),
    "flag-harmful": ("harmful", "เป็นอันตราย"),
    "flag-other": ("or in your words", "หรือบอกด้วยคำของคุณ"),
    "cancel": ("Cancel", "ยกเลิก"),
    "close": ("Close", "ปิด"),
    "conflict": (
        "{by} saved this row meanwhile ({action}). Yours is not saved.",
        "{by} บันทึกแถวนี้ไปแล้ว ({action}) ของคุณยังไม่ได้บันทึก",
    ),
    "changed": (
        "{by} has just saved this row: reload it before you go on.",
        "{by} เพิ่งบันทึกแถวนี้: โหลดใหม่ก่อนทำต่อ",
    ),
    "theirs": ("Take theirs", "ใช้ของเขา"),
    "mine": ("Put mine in its place", "ใช้ของฉันแทน"),
    "offline": (
        "The program does not answer. What you typed stays here: start it again in the terminal "
        "and copy it over, or wait.",
        "โปรแกรมไม่ตอบ สิ่งที่คุณพิมพ์ยังอยู่ที่นี่: เริ่มโปรแกรมใหม่ในเทอร์มินัลแล้วคัดลอกไป หรือรอ",
    ),
    "all-done": ("Nothing more to do here.", "ไม่มีอะไรต้องทำแล้ว"),
    "check-no-instruction": ("There is no instruction.", "ไม่มีคำสั่ง"),
    "check-no-answer": ("There is no answer.", "ไม่มีคำตอบ"),
    "check-personal": ("Personal data? {detail}", "ข้อมูลส่วนบุคคลหรือไม่ {detail}"),
    "check-near-copy": ("{percent}% like row {detail}", "เหมือนแถว {detail} {percent}%"),
    "check-same-as-draft": ("The answer is the draft as it was.", "คำตอบตรงกับฉบับร่างทุกตัวอักษร"),
    "check-same-as-question": ("The answer repeats the question.", "คำตอบซ้ำกับคำถาม"),
    "report-seconds": ("{n} s a row (median)", "{n} วินาทีต่อแถว (มัธยฐาน)"),
    "report-drafts": (
        "{percent}% of {n} drafts accepted unchanged (95%: {low}–{high}%)",
        "รับฉบับร่างโดยไม่แก้ {percent}% จาก {n} (95%: {low}–{high}%)",
    ),
    "report-distance": (
        "other answers: median {n} characters from the draft",
        "คำตอบอื่น: ต่างจากฉบับร่าง {n} ตัวอักษร (มัธยฐาน)",
    ),
    "report-agree": (
        "{first} and {second}, same rows: the same answer in {percent}% of {n}",
        "{first} กับ {second} ในแถวเดียวกัน: คำตอบตรงกัน {percent}% จาก {n}",
    ),
    "report-nothing": ("Nothing was done yet.", "ยังไม่ได้ทำอะไร"),
    "finish": ("Write the set now", "เขียนชุดข้อมูลตอนนี้"),
    "finish-done": ("The set is written.", "เขียนชุดข้อมูลแล้ว"),
    "finish-none": ("The set is up to date.", "ชุดข้อมูลเป็นปัจจุบันแล้ว"),
    "finish-hint": (
        "All that is saved is on disk. The set itself is written here, or when the program ends.",
        "ทุกอย่างที่บันทึกอยู่บนดิสก์แล้ว ตัวชุดข้อมูลจะเขียนที่นี่ หรือเมื่อโปรแกรมจบ",
    ),
    "keys-title": ("Keys", "ปุ่มลัด"),
    "keys-hint": (
        "In a text field hold Alt; elsewhere press the letter alone. They work on a Thai keyboard.",
        "ในช่องข้อความกด Alt ค้าง ที่อื่นกดตัวอักษรเดียว ใช้ได้กับแป้นพิมพ์ไทย",
    ),
    "key-answer": ("to the answer", "ไปที่คำตอบ"),
    "key-leave": ("leave a text field", "ออกจากช่องข้อความ"),
    "key-search": ("search", "ค้นหา"),
    "seconds": ("{n} s", "{n} วิ"),
}


def words(language: str) -> dict[str, str]:
    """Those of one of LANGUAGES."""
    index = LANGUAGES.index(language)
    return {key: texts[index] for key, texts in _WORDS.items()}


# The categories of Dolly (Conover et al. 2023, after those of InstructGPT), in our own words.
DOLLY = {
    "en": """\
Write what a person would really ask, and an answer you would be glad to get. Use no text from
other models. Leave out personal data.

## `open_qa`
A question that general knowledge answers, or a quick search. No input.

## `closed_qa`
A question that the input answers: a short passage of facts. The answer stays within it.

## `information_extraction`
The instruction asks for certain facts; the answer takes them from the input and adds nothing.

## `summarization`
The input is a passage; the answer tells it in a few sentences of its own.

## `classification`
Sort the given things into named classes. Write the things and the classes into the instruction.

## `brainstorming`
Ask for ideas; the answer is a list of different ones.

## `creative_writing`
Ask for a poem, a story, a letter; say enough that a good one can be told from a poor one.

## `general_qa`
A question whose answer is an opinion or a judgement; the answer weighs sides. No input.
""",
    "th": """\
เขียนสิ่งที่คนถามจริง และคำตอบที่คุณเองอยากได้ ไม่ใช้ข้อความจากโมเดลอื่น ไม่ใส่ข้อมูลส่วนบุคคล

## `open_qa`
คำถามที่ตอบได้ด้วยความรู้ทั่วไปหรือค้นหาเล็กน้อย ไม่มีข้อมูลประกอบ

## `closed_qa`
คำถามที่ข้อมูลประกอบตอบได้ คือข้อความสั้นที่เป็นข้อเท็จจริง คำตอบอยู่ในขอบเขตนั้น

## `information_extraction`
คำสั่งขอข้อเท็จจริงบางอย่าง คำตอบดึงมาจากข้อมูลประกอบโดยไม่เพิ่มเติม

## `summarization`
ข้อมูลประกอบเป็นข้อความหนึ่งตอน คำตอบเล่าใหม่ในไม่กี่ประโยค

## `classification`
จัดสิ่งที่ให้มาเข้ากลุ่มที่กำหนด เขียนสิ่งเหล่านั้นและชื่อกลุ่มไว้ในคำสั่ง

## `brainstorming`
ขอความคิด คำตอบเป็นรายการความคิดที่ต่างกัน

## `creative_writing`
ขอกลอน เรื่องสั้น หรือจดหมาย บอกให้พอที่จะแยกงานดีจากงานไม่ดีได้

## `general_qa`
คำถามที่คำตอบเป็นความเห็นหรือการชั่งน้ำหนัก คำตอบมองหลายด้าน ไม่มีข้อมูลประกอบ
""",
}
