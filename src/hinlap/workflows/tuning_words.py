"""What a tuning's report says, in English and Thai."""

from __future__ import annotations

from hinlap.workflows.wording import Language

_WORDS: dict[str, tuple[str, str]] = {
    "and": ("and", "และ"),
    "untested": (
        "Not shown to be better: it was not measured beside its base on the same items.",
        "ยังไม่พบว่าดีกว่า เพราะยังไม่ได้วัดเทียบกับโมเดลฐานบนรายการเดียวกัน",
    ),
    "no base": (
        "Made from scratch: there is no base to stand beside.",
        "ฝึกใหม่ตั้งแต่ต้น จึงไม่มีโมเดลฐานให้เทียบ",
    ),
    "better than": ("better than {names}", "ดีกว่า {names}"),
    "worse than": ("worse than {names}", "แย่กว่า {names}"),
    "not decisive than": (
        "against {names} the test is not decisive",
        "เมื่อเทียบกับ {names} ยังตัดสินไม่ได้",
    ),
    "by metric": ("{said}, by {metric}.", "{said} (ตัดสินด้วย {metric})"),
    "reason": (
        "Against {base}: {own} to {other}, on the items of both {difference}; p {p} "
        "(Holm, tests: {tests}), n={n}.",
        "เทียบกับ {base}: {own} ต่อ {other} บนรายการที่มีทั้งคู่ {difference} p {p} "
        "(Holm, จำนวนการทดสอบ: {tests}) n={n}",
    ),
    "would decide": ("About {items} items would decide.", "ต้องใช้ประมาณ {items} รายการจึงจะตัดสินได้"),
    "no number decides": (
        "There is no difference that more items would settle.",
        "ไม่พบความต่างที่จำนวนรายการมากขึ้นจะตัดสินได้",
    ),
    "forgot": (
        "worse after tuning: {difference}, p {p} (Holm), n={n}.",
        "แย่ลงหลังปรับแต่ง: {difference} p {p} (Holm) n={n}",
    ),
    "gained": (
        "better after tuning: {difference}, p {p} (Holm), n={n}.",
        "ดีขึ้นหลังปรับแต่ง: {difference} p {p} (Holm) n={n}",
    ),
    "no loss shown": (
        "no loss is shown, which is not the same as none: {difference}, p {p} (Holm), n={n}.",
        "ไม่พบว่าแย่ลง ซึ่งไม่ได้แปลว่าไม่แย่ลง: {difference} p {p} (Holm) n={n}",
    ),
    "detectable": (
        "So many items would show a change of {least} in four cases of five.",
        "จำนวนรายการเท่านี้จะพบความเปลี่ยนแปลงขนาด {least} ได้สี่ในห้าครั้ง",
    ),
    "still rising": (
        "still rising: twice the examples ({double}) are expected to add {gain}; "
        "a gain of {threshold} was said to pay.",
        "ยังเพิ่มขึ้น: หากเพิ่มตัวอย่างเป็นสองเท่า ({double}) คาดว่าจะเพิ่ม {gain} โดยเกณฑ์ที่คุ้มคือ {threshold}",
    ),
    "enough": (
        "enough: examples helped (from {smallest} to {largest}: {rise}), but twice as many are "
        "expected to add {gain} only, under the {threshold} that was said to pay.",
        "เพียงพอแล้ว: ตัวอย่างช่วยได้ (จาก {smallest} ถึง {largest}: {rise}) "
        "แต่หากเพิ่มเป็นสองเท่าคาดว่าจะเพิ่มเพียง {gain} ต่ำกว่าเกณฑ์ที่คุ้ม {threshold}",
    ),
    "flat": (
        "flat, examples do not help: from {smallest} to {largest} they changed {rise}, less than "
        "the {threshold} that was said to pay.",
        "คงที่ ตัวอย่างไม่ช่วย: จาก {smallest} ถึง {largest} เปลี่ยนไป {rise} น้อยกว่าเกณฑ์ที่คุ้ม {threshold}",
    ),
    "falling": (
        "falling, more examples made it worse: from {smallest} to {largest} by {rise}.",
        "ลดลง ตัวอย่างที่มากขึ้นทำให้แย่ลง: จาก {smallest} ถึง {largest} เปลี่ยนไป {rise}",
    ),
    "cannot say": (
        "cannot say, too few items or trainings: from {smallest} to {largest} it changed {rise} "
        "(a trend by chance: p {p}), twice as many might add {gain}; a gain of {threshold} was "
        "said to pay.",
        "บอกไม่ได้ เพราะรายการหรือรอบการฝึกน้อยเกินไป: จาก {smallest} ถึง {largest} "
        "เปลี่ยนไป {rise} (อาจบังเอิญ p {p}) "
        "หากเพิ่มเป็นสองเท่าอาจเพิ่ม {gain} โดยเกณฑ์ที่คุ้มคือ {threshold}",
    ),
    "enough_at": (
        "From about {at} examples on [{low}, {high}], doubling pays less than that.",
        "ตั้งแต่ประมาณ {at} ตัวอย่าง [{low}, {high}] การเพิ่มเป็นสองเท่าจะไม่คุ้ม",
    ),
    "enough_beyond": (
        "Beyond what was measured, from about {at} examples on [{low}, {high}], doubling would "
        "pay less than that.",
        "นอกช่วงที่วัด ตั้งแต่ประมาณ {at} ตัวอย่าง [{low}, {high}] การเพิ่มเป็นสองเท่าจะไม่คุ้ม",
    ),
    "held_out": (
        "held-out rows: loss {loss}, perplexity {perplexity}, token accuracy {accuracy} "
        "({tokens} tokens)",
        "แถวที่กันไว้: loss {loss} perplexity {perplexity} ความแม่นยำของโทเค็น {accuracy} "
        "({tokens} โทเค็น)",
    ),
    "spent": (
        "learnt from {rows} rows in {steps} steps, {tokens} tokens of which {learnt} taught, "
        "{time}, {speed} tokens a second",
        "เรียนจาก {rows} แถวใน {steps} ขั้น {tokens} โทเค็น ในนั้น {learnt} โทเค็นเป็นสิ่งที่เรียน {time} "
        "{speed} โทเค็นต่อวินาที",
    ),
    "systems": (
        "Tuned beside its base, on the same items",
        "เทียบโมเดลที่ปรับแต่งกับโมเดลฐานบนรายการเดียวกัน",
    ),
    "system": ("System", "ระบบ"),
    "figure": ("Figure [95%]", "ค่า [95%]"),
    "difference": ("Tuned minus it [95%]", "ที่ปรับแต่งแล้วลบด้วยค่านี้ [95%]"),
    "change": ("After minus before [95%]", "หลังลบด้วยก่อน [95%]"),
    "verdict": ("So tuned is", "ที่ปรับแต่งแล้ว"),
    "better": ("better", "ดีกว่า"),
    "worse": ("worse", "แย่กว่า"),
    "not decisive": ("not decisive", "ยังตัดสินไม่ได้"),
    "higher": ("higher is better", "ยิ่งมากยิ่งดี"),
    "lower": ("lower is better", "ยิ่งน้อยยิ่งดี"),
    "undefined": ("without a value", "ไม่มีค่า"),
    "tests_note": (
        "Bars and brackets are 95% bootstrap intervals over items. Differences are on the items "
        "that both have; p by approximate randomisation, corrected by Holm within a metric. "
        "One training was measured: another seed would give somewhat other figures.",
        "แถบและวงเล็บคือช่วงความเชื่อมั่น 95% แบบบูตสแตรปบนรายการ ผลต่างคิดบนรายการที่มีทั้งคู่ ค่า p "
        "จากการสุ่มสลับ ปรับด้วย Holm ภายในตัวชี้วัด วัดจากการปรับแต่งครั้งเดียว ค่าเริ่มสุ่มอื่นจะให้ตัวเลขต่างไปบ้าง",
    ),
    "losses": ("Training", "การปรับแต่ง"),
    "losses_note": ("loss, nats a learnt token, by step", "loss (nats ต่อโทเค็นที่เรียน) ตามขั้น"),
    "each": ("each step", "แต่ละขั้น"),
    "smooth": ("running mean", "ค่าเฉลี่ยเคลื่อนที่"),
    "held": ("held-out rows", "แถวที่กันไว้"),
    "step": ("Step", "ขั้น"),
    "loss": ("Loss", "Loss"),
    "perplexity": ("Perplexity", "Perplexity"),
    "accuracy": ("Token accuracy", "ความแม่นยำของโทเค็น"),
    "tokens": ("Tokens", "โทเค็น"),
    "stopped": ("Stopped early", "หยุดก่อนกำหนด"),
    "forgetting": ("What it forgot", "สิ่งที่ลืมไป"),
    "general": ("general set", "ชุดทั่วไป"),
    "before": ("before", "ก่อน"),
    "after": ("after", "หลัง"),
    "not_checked": (
        "Not checked: no general set was measured before and after.",
        "ไม่ได้ตรวจ: ไม่มีชุดทั่วไปที่วัดก่อนและหลัง",
    ),
    "curve": ("Quality against the number of examples", "คุณภาพต่อจำนวนตัวอย่าง"),
    "curve_note": (
        "Dots: measured, with 95% intervals of the items. Line: y = a − b·n^−c, dashed beyond "
        "what was measured.",
        "จุด: ค่าที่วัด พร้อมช่วงความเชื่อมั่น 95% เส้น: y = a − b·n^−c เส้นประคือนอกช่วงที่วัด",
    ),
    "curve_mark": (
        "Dotted: from here on doubling does not pay.",
        "เส้นจุด: ตั้งแต่ตรงนี้การเพิ่มเป็นสองเท่าไม่คุ้ม",
    ),
    "deviation": (
        "The points stray from the line by more than their items explain: trainings differ by "
        "about {deviation} (standard deviation), which the intervals of the gain hold.",
        "จุดห่างจากเส้นมากกว่าที่รายการอธิบายได้: การปรับแต่งแต่ละครั้งต่างกันราว {deviation} "
        "(ส่วนเบี่ยงเบนมาตรฐาน) ซึ่งรวมอยู่ในช่วงของค่าที่เพิ่มแล้ว",
    ),
    "examples": ("Before and after", "ก่อนและหลัง"),
    "asked": ("asked", "คำถาม"),
    "wanted": ("wanted", "ที่ต้องการ"),
    "no_answer": ("no answer that could be used", "ไม่มีคำตอบที่ใช้ได้"),
    "empty": ("empty", "ว่าง"),
    "left_out": ("Left out of training", "ไม่ได้ใช้ปรับแต่ง"),
    "none_left_out": ("No row was left out.", "ใช้ทุกแถว"),
    "data": ("What taught", "ข้อมูลที่ใช้ปรับแต่ง"),
    "no_data": ("The files were not kept.", "ไม่ได้บันทึกไฟล์"),
    "file": ("File", "ไฟล์"),
    "rows": ("Rows", "แถว"),
    "licence": ("Licence", "สัญญาอนุญาต"),
    "unknown": ("unknown", "ไม่ทราบ"),
    "recipe": ("Recipe", "สูตร"),
    "machine": ("Machine and time", "เครื่องและเวลา"),
    "base": ("base", "โมเดลฐาน"),
    "scratch": ("from scratch", "ตั้งแต่ต้น"),
    "signatures": ("How it was measured", "วิธีวัด"),
    "small": (
        "A small model (under 3 billion parameters): weak answers and wrong facts are to be "
        "expected. Nothing here measures whether it is safe.",
        "โมเดลเล็ก (ไม่ถึง 3 พันล้านพารามิเตอร์) คำตอบย่อมอ่อนและอาจผิดข้อเท็จจริง หน้านี้ไม่ได้วัดความปลอดภัย",
    ),
    "unsafe": (
        "Nothing here measures whether it is safe.",
        "หน้านี้ไม่ได้วัดความปลอดภัย",
    ),
}  # fmt: skip


def say(key: str, language: Language, **values: object) -> str:
    """The text of ``key``, its places filled by ``values``."""
    return _WORDS[key][language == "th"].format(**values)
