"""Google's Perspective API as the rater of texts.

One request a text, so many a second as the key allows: one, unless PERSPECTIVE_API_QPS says more.
Its makers said in January 2026 that it takes no new users and ends with the year 2026, and they
changed its models without naming versions: what it rated then cannot be rated again.
Source: https://developers.perspectiveapi.com (comments:analyze, attribute TOXICITY).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from hinlap.core.errors import EngineError, ServiceSetupError
from hinlap.engines.classifier import encodable

KEY_ENV, RATE_ENV = "PERSPECTIVE_API_KEY", "PERSPECTIVE_API_QPS"
_ADDRESS = "https://commentanalyzer.googleapis.com"
_ATTEMPTS = 7
"""Waits of 1, 2, 4 … 32 seconds between them: more than the minute that a quota counts by."""
_LONGEST_BYTES = 20_480
"""Of a text in UTF-8; the service refuses more."""
_OF_THE_TEXT = (
    "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
    "LANGUAGE_DETECTION_FAILED",
    "COMMENT_TOO_LONG",
    "COMMENT_EMPTY",
    "does not support request languages",  # the same, in answers without an error type
)


@dataclass(frozen=True)
class PerspectiveClassifier:
    """A text that the service refuses for its language or length is None. Raises
    ServiceSetupError for a key that is missing or refused, EngineError when the service is down
    after all attempts or refuses the request as such.

    environment: where the key and the rate are looked up, when asking.
    """

    address: str = _ADDRESS
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    @property
    def name(self) -> str:
        return "Perspective API"

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"perspective/TOXICITY/en").hexdigest()

    def has_key(self) -> bool:
        return bool(self.environment.get(KEY_ENV, "").strip())

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        yield from ((place, 0.0) for place, text in enumerate(texts) if not text.strip())
        said = [place for place, text in enumerate(texts) if text.strip()]
        if not said:
            return
        key, paced = self._key(), self._pace()
        with httpx.Client(base_url=self.address, timeout=30.0) as client:
            for place in said:
                text = encodable(texts[place])
                if len(text.encode("utf-8")) > _LONGEST_BYTES:
                    yield place, None
                else:
                    yield place, self._ask(client, key, text, paced)

    def _key(self) -> str:
        key = self.environment.get(KEY_ENV, "").strip()
        if not key:
            raise ServiceSetupError(
                "no key for the Perspective API", where=KEY_ENV, hint=f"export {KEY_ENV}=…"
            )
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ServiceSetupError(
                "the key holds a character that no key has (a space, a letter outside ASCII)",
                where=KEY_ENV,
                hint="copy the key again, without quotes or anything around it",
            )
        return key

    def _pace(self) -> Callable[[], None]:
        """A function that waits until the next request may be sent."""
        said = self.environment.get(RATE_ENV, "1")
        try:
            rate = float(said)
        except ValueError:
            rate = 0.0
        if not 0 < rate < 10_000:
            raise ServiceSetupError(
                f"{said!r} is no number of requests a second",
                where=RATE_ENV,
                hint="a number above 0, as the quota of your key allows",
            )
        free_at = self.clock()

        def wait() -> None:
            nonlocal free_at
            left = free_at - self.clock()
            if left > 0:
                self.sleep(left)
            free_at = max(free_at, self.clock()) + 1.0 / rate

        return wait

    def _ask(
        self, client: httpx.Client, key: str, text: str, paced: Callable[[], None]
    ) -> float | None:
        body = {
            "comment": {"text": text},
            "languages": ["en"],
            "requestedAttributes": {"TOXICITY": {}},
            "doNotStore": True,
        }
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self.sleep(2.0 ** (attempt - 1))
            paced()
            try:
                answer = client.post(
                    "/v1alpha1/comments:analyze", headers={"X-Goog-Api-Key": key}, json=body
                )
            except httpx.HTTPError as error:
                reason = type(error).__name__  # its text may hold what was sent
                continue
            if answer.status_code == 200:
                return _score(answer)
            if answer.status_code in (401, 403) or "API key not valid" in answer.text:
                raise ServiceSetupError(
                    f"the Perspective API refuses the key (status {answer.status_code})",
                    where=KEY_ENV,
                    hint="check the key, and that its project may use the Comment Analyzer API",
                )
            if answer.status_code == 400 and any(mark in answer.text for mark in _OF_THE_TEXT):
                return None
            reason = f"status {answer.status_code}"
            if answer.status_code != 429 and answer.status_code < 500:
                break
        raise EngineError(
            f"the Perspective API gives no rating ({reason})",
            where=self.address,
            hint="run the same command again later: what was rated is kept. The service was "
            "announced to end with 2026; another classifier needs no service",
        )


def _score(answer: httpx.Response) -> float | None:
    try:
        value = float(answer.json()["attributeScores"]["TOXICITY"]["summaryScore"]["value"])
    except (ValueError, KeyError, TypeError):
        return None
    return value if 0.0 <= value <= 1.0 else None
