"""Sentences of the decision and labels of the report, in English and Thai."""

from __future__ import annotations

from typing import Literal

from hinlap.routes.decide import Reason

Language = Literal["en", "th"]

_SENTENCES: dict[str, tuple[str, str]] = {
    "not_measured": (
        "{route} was not measured in full, so it cannot be chosen.",
        "{route} ยังวัดผลไม่ครบ จึงเลือกไม่ได้",
    ),
    "stand_in": (
        "{route} was answered by a local stand-in, not by the service: its figures say nothing "
        "about the service, so it cannot be chosen. Set its key to measure it.",
        "{route} ตอบโดยตัวแทนในเครื่อง ไม่ใช่บริการจริง ตัวเลขจึงไม่บอกอะไรเกี่ยวกับบริการและเลือกไม่ได้ "
        "ตั้งค่าคีย์เพื่อวัดบริการจริง",
    ),
    "leaves": (
        "{route} sends data off the machine, which the limits forbid.",
        "{route} ส่งข้อมูลออกนอกเครื่อง ซึ่งขัดกับข้อจำกัด",
    ),
    "cost": (
        "{route} costs {cost} USD per 1,000 requests, over the limit of {limit}.",
        "{route} มีค่าใช้จ่าย {cost} ดอลลาร์ต่อ 1,000 คำขอ เกินเพดาน {limit}",
    ),
    "p95": (
        "{route} takes {p95} s (p95), over the limit of {limit} s.",
        "{route} ใช้เวลา {p95} วินาที (p95) เกินเพดาน {limit} วินาที",
    ),
    "usable": (
        "Only {share} of the answers of {route} could be used; the limit is {limit}.",
        "คำตอบของ {route} ใช้ได้เพียง {share} ขณะที่เกณฑ์คือ {limit}",
    ),
    "no_quality": (
        "{route} has no figure for the metric that decides.",
        "{route} ไม่มีค่าของตัวชี้วัดที่ใช้ตัดสิน",
    ),
    "no_route": (
        "No route keeps the limits: relax them, or change the routes.",
        "ไม่มีเส้นทางใดอยู่ในข้อจำกัด ให้ผ่อนข้อจำกัดหรือเปลี่ยนเส้นทาง",
    ),
    "none_available": (
        "No route was available: mend what kept them from being measured in full, and run the "
        "same command again.",
        "ไม่มีเส้นทางใดพร้อมใช้งาน ให้แก้สิ่งที่ทำให้วัดผลไม่ครบ แล้วสั่งคำสั่งเดิมอีกครั้ง",
    ),
    "worse": (
        "{route} is worse than {best} on the same items.",
        "{route} แย่กว่า {best} เมื่อวัดกับรายการเดียวกัน",
    ),
    "tie": (
        "Between {best} and {route} the test is not decisive; about {items} items would decide.",
        "ระหว่าง {best} กับ {route} ยังตัดสินไม่ได้ ต้องใช้ประมาณ {items} รายการจึงจะตัดสินได้",
    ),
    "tie_no_number": (
        "Between {best} and {route} there is no difference that more items would settle.",
        "ระหว่าง {best} กับ {route} ไม่พบความต่างที่จำนวนรายการมากขึ้นจะตัดสินได้",
    ),
    "only": (
        "{route} is the only route within the limits.",
        "{route} เป็นเส้นทางเดียวที่อยู่ในข้อจำกัด",
    ),
    "cheapest": (
        "Of the routes that no test could tell apart, {route} is the cheapest "
        "({cost} USD per 1,000 requests).",
        "ในบรรดาเส้นทางที่ยังแยกกันไม่ออก {route} ถูกที่สุด ({cost} ดอลลาร์ต่อ 1,000 คำขอ)",
    ),
    "best": (
        "{route} is better than every other route within the limits.",
        "{route} ดีกว่าทุกเส้นทางอื่นที่อยู่ในข้อจำกัด",
    ),
    "chance": (
        "Beware: {route} is not shown to do better than guessing ({chance}). Take it as the "
        "cheapest place to start, not as good.",
        "ระวัง: ยังไม่พบว่า {route} ดีกว่าการเดา ({chance}) ถือเป็นจุดเริ่มต้นที่ถูกที่สุด ไม่ใช่สิ่งที่ดีแล้ว",
    ),
}

_LABELS: dict[str, tuple[str, str]] = {
    "route": ("Route", "เส้นทาง"),
    "model": ("Model", "โมเดล"),
    "status": ("Status", "สถานะ"),
    "measured": ("measured", "วัดแล้ว"),
    "partial": ("stopped early", "หยุดกลางคัน"),
    "unavailable": ("unavailable", "ใช้ไม่ได้"),
    "stand_in_mark": ("stand-in", "ตัวแทน"),
    "cost": ("USD per 1,000", "ดอลลาร์ต่อ 1,000"),
    "latency": ("Seconds p50 / p95", "วินาที p50 / p95"),
    "tokens": ("Tokens in / out", "โทเค็นเข้า / ออก"),
    "privacy": ("Data leaves", "ข้อมูลออกนอกเครื่อง"),
    "yes": ("yes", "ใช่"),
    "no": ("no", "ไม่"),
    "examples": ("Examples needed", "ตัวอย่างที่ต้องใช้"),
    "lock_in": ("To leave it", "หากจะเลิกใช้"),
    "lock_in.prompts": (
        "change one line: the prompts work with any model",
        "เปลี่ยนบรรทัดเดียว พรอมป์ใช้กับโมเดลใดก็ได้",
    ),
    "lock_in.service": (
        "change address, model and key; check the prompts anew",
        "เปลี่ยนที่อยู่ โมเดล และคีย์ แล้วตรวจพรอมป์ใหม่",
    ),
    "lock_in.tuning": (
        "tune the new base model again; the examples are yours",
        "ปรับแต่งโมเดลฐานใหม่อีกครั้ง ตัวอย่างเป็นของคุณ",
    ),
    "counts": ("Answers", "คำตอบ"),
    "ok": ("ok", "ใช้ได้"),
    "unreadable": ("unreadable", "อ่านไม่ได้"),
    "refused": ("refused", "ปฏิเสธ"),
    "truncated": ("cut", "ถูกตัด"),
    "failed": ("failed", "ล้มเหลว"),
    "unanswered": (
        "{n} requests got no answer (time-out, lost connection) but may be billed: counted as "
        "{usd} USD, the most they could cost",
        "{n} คำขอไม่ได้รับคำตอบ (หมดเวลาหรือการเชื่อมต่อขาด) แต่อาจถูกคิดเงิน "
        "จึงนับเป็น {usd} ดอลลาร์ ซึ่งสูงสุดเท่าที่เป็นไปได้",
    ),
    "unanswered.1": (
        "{n} request got no answer (time-out, lost connection) but may be billed: counted as "
        "{usd} USD, the most it could cost",
        "{n} คำขอไม่ได้รับคำตอบ (หมดเวลาหรือการเชื่อมต่อขาด) แต่อาจถูกคิดเงิน "
        "จึงนับเป็น {usd} ดอลลาร์ ซึ่งสูงสุดเท่าที่เป็นไปได้",
    ),
    "premade": ("premade outputs", "คำตอบตัวอย่าง"),
    "decision": ("Decision", "ผลตัดสิน"),
    "table": ("The routes side by side", "เทียบเส้นทางทั้งหมด"),
    "take": ("Take {route}.", "เลือก {route}"),
    "take_none": ("No route can be taken.", "ไม่มีเส้นทางที่เลือกได้"),
    "no_decide": (
        "app.yaml declares nothing to decide by (decide: by).",
        "app.yaml ไม่ได้กำหนดเกณฑ์ตัดสิน",
    ),
    "rule": (
        "The rule: limits first (cost, p95, privacy, usable answers), then {by}; "
        "ties go to the cheaper.",
        "กติกา: ข้อจำกัดก่อน (ค่าใช้จ่าย p95 ความเป็นส่วนตัว คำตอบที่ใช้ได้) แล้วจึงดู {by} หากเสมอกันเลือกที่ถูกกว่า",
    ),
    "items": ("{n} items", "{n} รายการ"),
    "items.1": ("{n} item", "{n} รายการ"),
    "quality": ("Quality", "คุณภาพ"),
    "interval_note": (
        "Bars are 95% intervals; n is the number of items behind a figure.",
        "แถบคือช่วงความเชื่อมั่น 95% และ n คือจำนวนรายการ",
    ),
    "lower": ("lower is better", "ยิ่งน้อยยิ่งดี"),
    "higher": ("higher is better", "ยิ่งมากยิ่งดี"),
    "pairs": ("Routes in pairs, on the same items", "เทียบทีละคู่บนรายการเดียวกัน"),
    "pair": ("Pair", "คู่"),
    "metric": ("Metric", "ตัวชี้วัด"),
    "difference": ("Difference (95%)", "ผลต่าง (95%)"),
    "verdict": ("Verdict", "ผล"),
    "better": ("better", "ดีกว่า"),
    "worse": ("worse", "แย่กว่า"),
    "not decisive": ("not decisive", "ยังตัดสินไม่ได้"),
    "would_decide": ("items that would decide", "จำนวนรายการที่จะตัดสินได้"),
    "volume": ("Cheapest by volume", "ถูกที่สุดตามปริมาณ"),
    "from_requests": ("from {n} requests on: {route}", "ตั้งแต่ {n} คำขอ: {route}"),
    "from_requests.1": ("from {n} request on: {route}", "ตั้งแต่ {n} คำขอ: {route}"),
    "assumptions": (
        "Own machines at {machine_usd_per_hour} USD an hour, one request at a time; tuning spread "
        "over all requests ({requests_per_month} a month × {months} = {volume}). Services by "
        "their price per million tokens.",
        "เครื่องของตนเองคิด {machine_usd_per_hour} ดอลลาร์ต่อชั่วโมง ทีละคำขอ ค่าปรับแต่งเฉลี่ยบน {volume} คำขอ "
        "(เดือนละ {requests_per_month} คำขอ {months} เดือน) บริการคิดตามราคาต่อล้านโทเค็น",
    ),
    "outputs": ("Every item's outputs", "คำตอบของทุกรายการ"),
    "wanted": ("wanted", "ที่ต้องการ"),
    "search": ("filter items", "กรองรายการ"),
    "signatures": ("Signatures", "ลายเซ็นของตัวเลข"),
    "latency_note": (
        "Latency: whole requests, one at a time (a service: at its declared concurrency), never "
        "from the cache. ≈: a stand-in's token counts at the service's prices.",
        "เวลา: ทั้งคำขอ ทีละคำขอ (บริการ: ตามจำนวนพร้อมกันที่กำหนด) ไม่นับคำตอบจากแคช "
        "≈: จำนวนโทเค็นของตัวแทนคิดตามราคาของบริการ",
    ),
    "small_model": (
        "The embedded model is very small (135M parameters): weak answers are to be expected. "
        "The table compares ways of building; a larger model moves them all.",
        "โมเดลที่ติดมาเล็กมาก (135 ล้านพารามิเตอร์) คำตอบย่อมอ่อน ตารางนี้เทียบวิธีสร้าง โมเดลใหญ่กว่าจะดีขึ้นทุกวิธี",
    ),
}


def sentence(reason: Reason, language: Language) -> str:
    """A reason of the decision in plain words."""
    return _SENTENCES[reason.key][language == "th"].format(**dict(reason.values))


def label(key: str, language: Language, **values: object) -> str:
    """A label of table or report; a key without an entry is itself.

    >>> label("items", "en", n=2), label("items", "en", n=1)
    ('2 items', '1 item')
    """
    one = f"{key}.1" if str(values.get("n")) == "1" else key
    pair = _LABELS.get(one) or _LABELS.get(key)
    return (pair[language == "th"] if pair else key).format(**values)
