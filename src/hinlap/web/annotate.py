"""The annotation page: one row at a time, the model's draft beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hinlap.core.errors import HinlapError, InputError, ProgramError
from hinlap.core.rows import Origin
from hinlap.data.annotation.desk import ConflictError, Status, View, Work
from hinlap.data.annotation.log import Entry, Fields
from hinlap.data.annotation.report import annotation_report
from hinlap.web.annotate_words import DOLLY, LANGUAGES, words
from hinlap.web.guard import Guard
from hinlap.web.guidelines import Section, sections
from hinlap.web.page import page
from hinlap.workflows.annotate import Annotating
from hinlap.workflows.drafts import Draft

_LIST_ROWS = 60
_LONGEST_NAME = 60
_DAY_SECONDS = 86_400.0

Answer = dict[str, Any]


def annotation_app(
    work: Annotating,
    token: str,
    *,
    annotator: str,
    guidelines: Sequence[Section] = (),
    language: str = "",
) -> Starlette:
    """The page and what it asks, for whoever has the token.

    guidelines: none: those of Dolly's categories. language: "" for the browser's.
    """
    desk = work.desk

    def start_page(request: Request) -> Response:
        chosen = _language(request, language)
        shown = list(guidelines) or sections(DOLLY[chosen])
        known = dict.fromkeys([*desk.categories(), *(s.category for s in shown if s.category)])
        return page(
            "annotate",
            chosen,
            words(chosen),
            {
                "file": desk.path.name,
                "language": chosen,
                "annotator": request.query_params.get("annotator", annotator)[:_LONGEST_NAME],
                "model": work.drafter.name if work.drafter else "",
                "leaves": bool(work.drafter and work.drafter.leaves_machine),
                "guidelines": [asdict(section) for section in shown],
                "categories": [name for name in known if name],
            },
        )

    def state(request: Request, said: Answer) -> Answer:
        number, entries = desk.changed_since(_whole(said, "since"))
        return {
            "number": number,
            "counts": desk.counts(),
            "changed": {e.row: {"by": e.annotator, "number": e.number} for e in entries if e.row},
        }

    def listing(request: Request, said: Answer) -> Answer:
        status, query = _filter(said)
        total, places = desk.places(status, query, start=_whole(said, "start"), limit=_LIST_ROWS)
        return {"total": total, "rows": [asdict(place) for place in places]}

    def step(request: Request, said: Answer) -> Answer:
        status, query = _filter(said)
        by = -1 if said.get("by") == -1 else 1
        key = desk.step(_whole(said, "start"), by, status, query)
        return _row(desk.view(key)) if key else {"key": ""}

    def row(request: Request, said: Answer) -> Answer:
        return _row(desk.view(_text(said, "key")))

    def draft(request: Request, said: Answer) -> Answer:
        found = work.draft(_text(said, "key"), _fields(said), again=said.get("again") is True)
        return _draft(found)

    def check(request: Request, said: Answer) -> Answer:
        return {
            "checks": [
                asdict(each)
                for each in desk.check(_text(said, "key"), _fields(said), _maybe(said, "draft"))
            ]
        }

    def save(request: Request, said: Answer) -> Answer:
        key, done = _text(said, "key"), _work(said)
        match said.get("action"):
            case "skip":
                entry = desk.skip(key, done)
            case "flag":
                entry = desk.flag(key, _text(said, "reason"), done)
            case _:
                entry = desk.save(key, _fields(said), done)
        return {"saved": entry.number, "action": entry.action, "row": _row(desk.view(key))}

    def undo(request: Request, said: Answer) -> Answer:
        taken_back = desk.undo(_text(said, "annotator"))
        key = taken_back.row if desk.holds(taken_back.row) else desk.step(0, 1)
        return {"action": taken_back.action, "row": _row(desk.view(key)) if key else {"key": ""}}

    def report(request: Request, said: Answer) -> Answer:
        return asdict(annotation_report(desk.changed_since(0)[1]))

    def finish(request: Request, said: Answer) -> Answer:
        return {"written": work.finish(_text(said, "annotator"))}

    def ask(path: str, answer: Callable[[Request, Answer], Answer]) -> Route:
        return Route(f"/api/{path}", _answering(answer), methods=["POST"])

    return Starlette(
        routes=[
            Route("/", start_page, methods=["GET"]),
            ask("state", state),
            ask("list", listing),
            ask("step", step),
            ask("row", row),
            ask("draft", draft),
            ask("check", check),
            ask("save", save),
            ask("undo", undo),
            ask("report", report),
            ask("finish", finish),
        ],
        middleware=[Middleware(Guard, token=token)],
    )


def _answering(
    answer: Callable[[Request, Answer], Answer],
) -> Callable[[Request], Awaitable[Response]]:
    """JSON in and out, on a thread; what goes wrong is told in the page's terms."""

    async def endpoint(request: Request) -> Response:
        try:
            said = json.loads(await request.body())
            if not isinstance(said, dict):
                raise ValueError
        except (ValueError, RecursionError):
            return _json({"error": "the request is not a JSON object"}, 400)
        try:
            return _json(await run_in_threadpool(answer, request, said))
        except ConflictError as error:
            return _json(
                {"error": error.what, "conflict": _entry(error.entry), "row": error.where}, 409
            )
        except ProgramError as error:
            return _json({"error": str(error)}, 500)
        except HinlapError as error:
            return _json({"error": error.what}, 400)

    return endpoint


def _json(content: Answer, status: int = 200) -> Response:
    """In ASCII: a half of a character in a row, which UTF-8 cannot hold, is no failure."""
    return Response(json.dumps(content), status, media_type="application/json")


def _row(view: View) -> Answer:
    row = view.row
    return {
        "key": view.key,
        "position": view.position,
        "status": view.status,
        "version": view.version,
        "fields": asdict(view.fields),
        "system": row.system,
        "history": [list(turn) for turn in row.history],
        "origin": row.origin if row.origin is not Origin.UNKNOWN else "",
        "last": _entry(view.last) if view.last else None,
    }


def _entry(entry: Entry) -> Answer:
    return {
        "action": entry.action,
        "by": entry.annotator,
        "at": entry.ended_at,
        "fields": asdict(entry.fields) if entry.fields else None,
        "reason": entry.reason,
        "number": entry.number,
    }


def _draft(draft: Draft | None) -> Answer:
    return {"status": "none"} if draft is None else asdict(draft)


def _language(request: Request, chosen: str) -> str:
    """`?lang`, what the command line says, then the browser's first that there are words for."""
    accepted = [
        part.partition(";")[0].strip().lower().partition("-")[0]
        for part in request.headers.get("accept-language", "").split(",")
    ]
    for language in (request.query_params.get("lang", ""), chosen, *accepted):
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


def _filter(said: Answer) -> tuple[Status | None, str]:
    status, query = said.get("status"), said.get("query")
    return (
        Status(status) if status in list(Status) else None,
        query.strip() if isinstance(query, str) else "",
    )


def _fields(said: Answer) -> Fields:
    fields = said.get("fields")
    if not isinstance(fields, dict):
        raise InputError("the request has no fields")
    return Fields(*(_text(fields, name) for name in ("instruction", "input", "output", "category")))


def _work(said: Answer) -> Work:
    return Work(
        annotator=_text(said, "annotator").strip()[:_LONGEST_NAME],
        version=_whole(said, "version"),
        seconds=_seconds(said, "seconds"),
        open_seconds=_seconds(said, "open_seconds"),
        draft=_maybe(said, "draft"),
        draft_by=_text(said, "draft_by"),
        from_draft=said.get("from_draft") is True,
    )


def _text(said: Answer, name: str) -> str:
    value = said.get(name, "")
    if not isinstance(value, str):
        raise InputError(f"{name!r} is no text")
    return value


def _maybe(said: Answer, name: str) -> str | None:
    return None if said.get(name) is None else _text(said, name)


def _whole(said: Answer, name: str) -> int:
    value = said.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**53:
        raise InputError(f"{name!r} is no whole number")
    return value


def _seconds(said: Answer, name: str) -> float:
    value = said.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name!r} is no number of seconds")
    return min(max(0.0, float(value)), _DAY_SECONDS)
