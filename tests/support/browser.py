"""A headless Chromium, which tests drive through the DevTools protocol to open, look at and print pages."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PROGRAMS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def chromium() -> str | None:
    """Where Chromium, or a browser made from it, is installed."""
    return next((program for name in _PROGRAMS if (program := shutil.which(name))), None)


class Browser:
    """A browser process. The protocol goes through its descriptors 3 and 4: no port is opened, and it ends with us."""

    def __init__(self, program: str, profile: Path) -> None:
        arguments = [
            *(program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"),
            *("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null', *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._sent = 0
        self._received = b""
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        self.command("Browser.close")
        self._process.communicate()

    def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        assert self._process.stdin
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        self._process.stdin.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        self._process.stdin.flush()
        while (answer := self._receive()).get("id") != self._sent:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def wait(self, method: str, session: str) -> None:
        """Wait for an event, if it has not come yet."""
        while not any(event["method"] == method for event in self.of(session)):
            self._receive()

    def of(self, session: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("sessionId") == session]

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout
        while b"\0" not in self._received:
            part = os.read(self._process.stdout.fileno(), 1 << 20)
            assert part, f"the browser ended with {self._process.wait()}"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        content = json.loads(message)
        if "method" in content:
            self.events.append(content)
        return content

    @contextmanager
    def page(
        self, file: Path, width: int = 1280, *, dark: bool = False, scripts: bool = True, media: str = ""
    ) -> Iterator[Page]:
        """A file opened in a window of a width in CSS pixels."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.command("Page.enable")
        page.command("Network.enable")
        page.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.command("Emulation.setEmulatedMedia", media=media, features=[scheme])
        page.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        page.command("Page.navigate", url=file.absolute().as_uri())
        self.wait("Page.loadEventFired", session)
        yield page
        self.command("Target.closeTarget", targetId=target)


class Page:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.command(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or what its promise is fulfilled with."""
        answer = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key that is named as in JavaScript, such as Tab."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def requests(self) -> Sequence[str]:
        """What the page has asked for, itself included."""
        events = self._browser.of(self._session)
        return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]

    def printed(self) -> bytes:
        """The page as PDF, on A4."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self.command("Page.printToPDF", printBackground=True, **paper)["data"])
