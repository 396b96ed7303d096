"""A headless Chromium over the DevTools protocol, by the pipe: no driver, no port, no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip


def executable() -> str | None:
    """The browser on PATH, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, out: int, back: int, process: subprocess.Popen[bytes]) -> None:
        self._out, self._back, self._process = out, back, process
        self._number, self._buffer, self.events = 0, b"", []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to the tab; RuntimeError if the browser refuses it."""
        return self._send(method, self._session, **params)

    def open(self, path: Path, width: int, scheme: str, height: int = 900) -> None:
        """Load a file at a width in a colour scheme (`light`, `dark`) and wait until it is laid out."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._until(lambda: any(event["method"] == "Page.loadEventFired" for event in self.events))

    def value(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"])
        return done["result"].get("value")

    def complaints(self) -> list[str]:
        """Console errors and warnings, exceptions, and anything asked from the network."""
        self.value("new Promise(done => setTimeout(done, 50))")
        found = []
        for event in self.events:
            params = event["params"]
            match event["method"]:
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                    found.append(str(params["args"]))
                case "Runtime.exceptionThrown":
                    found.append(str(params["exceptionDetails"]))
                case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                    found.append(params["entry"]["text"])
                case "Network.requestWillBeSent" if not params["request"]["url"].startswith(("file:", "data:")):
                    found.append(f"asked the network for {params['request']['url']}")
        return found

    def picture(self, path: Path) -> None:
        """A PNG of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self._until(lambda: answers, answers, number)
        if "error" in answers[0]:
            raise RuntimeError(f"{method}: {answers[0]['error']}")
        return dict(answers[0]["result"])

    def _until(self, done, answers=None, number: int = -1, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            ready, _, _ = select.select([self._back], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._back, 1 << 16) if ready else b""
            if not chunk:
                raise RuntimeError(f"the browser fell silent (exit code {self._process.poll()})")
            *whole, self._buffer = (self._buffer + chunk).split(b"\0")
            for text in whole:
                message = json.loads(text)
                if message.get("id") == number and answers is not None:
                    answers.append(message)
                elif "method" in message:
                    self.events.append(message)


@contextmanager
def browsing(home: Path) -> Iterator[Page]:
    """A tab of a fresh browser whose profile lies in `home`; ended with the block."""
    program = executable()
    if program is None:
        raise RuntimeError("there is no Chromium on PATH")
    there, out = os.pipe()
    back, here = os.pipe()

    def wire() -> None:  # the browser reads commands from descriptor 3 and answers on 4
        os.dup2(there, 13)
        os.dup2(here, 14)
        os.dup2(13, 3)
        os.dup2(14, 4)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={home}", "about:blank"],
        preexec_fn=wire,  # noqa: PLW1509 - the only way to give descriptors 3 and 4; no thread runs here
        close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(home)},
    )  # fmt: skip
    os.close(there)
    os.close(here)
    try:
        yield Page(out, back, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(out)
        os.close(back)
