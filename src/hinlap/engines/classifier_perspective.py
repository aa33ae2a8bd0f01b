"""Google's Perspective API as the rater of texts.

One request a text, so many a second as the key allows: one, unless PERSPECTIVE_API_QPS says more.
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

KEY_ENV, RATE_ENV = "PERSPECTIVE_API_KEY", "PERSPECTIVE_API_QPS"
_ADDRESS = "https://commentanalyzer.googleapis.com"
_ATTEMPTS = 5
_LONGEST_BYTES = 20_480
"""Of a text; the service refuses more."""


@dataclass(frozen=True)
class PerspectiveClassifier:
    """A text of white space is rated 0; one that the service cannot rate (its language, its
    length) is None. Raises ServiceSetupError for a key that is missing or refused, EngineError
    when the service is down after all attempts."""

    address: str = _ADDRESS
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    @property
    def name(self) -> str:
        return "Perspective API"

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"perspective/TOXICITY/en").hexdigest()

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        key = self.environment.get(KEY_ENV, "")
        if not key:
            raise ServiceSetupError(
                "no key for the Perspective API", where=KEY_ENV, hint=f"export {KEY_ENV}=..."
            )
        apart = 1.0 / self._per_second()
        free_at = self.clock()
        with httpx.Client(base_url=self.address, timeout=30.0) as client:
            for place, text in enumerate(texts):
                if not text.strip():
                    yield place, 0.0
                    continue
                if len(text.encode("utf-8", "replace")) > _LONGEST_BYTES:
                    yield place, None
                    continue
                self.sleep(max(0.0, free_at - self.clock()))
                free_at = self.clock() + apart
                yield place, self._ask(client, key, text)

    def _per_second(self) -> float:
        said = self.environment.get(RATE_ENV, "1")
        try:
            rate = float(said)
        except ValueError:
            rate = 0.0
        if not 0 < rate < 10_000:
            raise ServiceSetupError(
                f"{said!r} requests a second", where=RATE_ENV, hint="a number above 0"
            )
        return rate

    def _ask(self, client: httpx.Client, key: str, text: str) -> float | None:
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
            try:
                answer = client.post(
                    "/v1alpha1/comments:analyze", headers={"X-Goog-Api-Key": key}, json=body
                )
            except httpx.HTTPError as error:
                reason = type(error).__name__  # its text may hold what was sent
                continue
            if answer.status_code == 200:
                return _score(answer)
            reason = f"status {answer.status_code}"
            if answer.status_code in (401, 403) or "API key not valid" in answer.text:
                raise ServiceSetupError("the key is refused", where=KEY_ENV, hint="check the key")
            if answer.status_code == 400:
                return None
            if answer.status_code != 429 and answer.status_code < 500:
                break
        raise EngineError(
            f"the Perspective API does not answer ({reason})",
            where=self.address,
            hint="run the same command again later; what was rated is kept",
        )


def _score(answer: httpx.Response) -> float | None:
    try:
        value = float(answer.json()["attributeScores"]["TOXICITY"]["summaryScore"]["value"])
    except (ValueError, KeyError, TypeError):
        return None
    return value if 0.0 <= value <= 1.0 else None
