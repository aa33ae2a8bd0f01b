"""A headless Chromium driven by its own protocol over a pipe: no driver, no library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
_CODES = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}


class Browser:
    """One tab. Waits are for a state of the page, up to ten seconds."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._pending = b""
        self._number = 0
        self._session = ""
        self.problems: list[str] = []  # what the page's console complained of
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            part = os.read(self._receive, 1 << 20)
            if not part:
                raise RuntimeError("the browser has gone")
            self._pending += part
        raw, _, self._pending = self._pending.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"])[:500])
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(parameters["entry"]["text"])
        if event.get("method") == "Page.javascriptDialogOpening":
            self.problems.append(f"dialog: {parameters['message']}")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def eval(self, expression: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = 10.0) -> None:
        # what a page lacks while it loads is not an error
        asked = f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()"
        deadline = time.monotonic() + seconds
        while not self.eval(asked):
            if time.monotonic() > deadline:
                shown = self.eval("document.body.innerText")
                raise AssertionError(f"never: {condition}\n{shown[:2000]}\n{self.problems}")
            time.sleep(0.03)

    def text(self, selector: str) -> str:
        return str(self.eval(f"document.querySelector({selector!r}).textContent"))

    def value(self, selector: str) -> str:
        return str(self.eval(f"document.querySelector({selector!r}).value"))

    def key(self, key: str, code: str = "", *, ctrl: bool = False, alt: bool = False) -> None:
        code = code or (f"Key{key.upper()}" if len(key) == 1 and key.isalpha() else key)
        number = _CODES.get(key, ord(key.upper()) if len(key) == 1 and key.isascii() else 0)
        event: dict[str, Any] = {
            "key": key,
            "code": code,
            "windowsVirtualKeyCode": number,
            "modifiers": 2 * ctrl + alt,
        }
        written = {"text": key} if len(key) == 1 and not ctrl and not alt else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **written)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def write(self, text: str) -> None:
        """Into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 700,
        )  # fmt: skip
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def picture(self, path: Path) -> None:
        raw = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(raw))


@contextmanager
def browsing(profile: Path, language: str = "en") -> Iterator[Browser]:
    """A browser with a fresh profile. CHROMIUM must be there."""
    assert CHROMIUM
    to_read, send = os.pipe()
    receive, to_write = os.pipe()

    def at_3_and_4() -> None:
        read, write = os.dup(to_read), os.dup(to_write)  # neither of them 3 or 4 now
        os.dup2(read, 3)
        os.dup2(write, 4)

    process = subprocess.Popen(
        [
            CHROMIUM, "--headless=new", "--remote-debugging-pipe", "--no-sandbox",
            "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-dev-shm-usage", "--disable-extensions",
            f"--user-data-dir={profile}", f"--lang={language}", f"--accept-lang={language}",
            "about:blank",
        ],
        preexec_fn=at_3_and_4,
        pass_fds=(3, 4),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_read)
    os.close(to_write)
    try:
        yield Browser(send, receive)
    finally:
        os.close(send)  # the end of its pipe tells it to go
        os.close(receive)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A tab that speaks English; the test is skipped where there is no Chromium."""
    if not CHROMIUM:
        pytest.skip("no Chromium here: apt install chromium")
    with browsing(tmp_path / "profile") as opened:
        yield opened
