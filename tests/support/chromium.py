"""A headless Chromium with a fake microphone, driven by the DevTools protocol over two pipes."""

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

FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-background-networking",
    "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip
COMMANDS, ANSWERS = 3, 4
"""Descriptors on which ``--remote-debugging-pipe`` reads and writes messages that end with a zero byte."""


def find_chromium() -> str | None:
    """The program, if this machine has it."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """A tab."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer, self._number = b"", 0
        self._session: str | None = None
        self.complaints: list[str] = []

    def open(self, url: str) -> None:
        """Loads an address in a new tab."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=url)
        self.wait_for("document.readyState == 'complete'")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        """The value of an expression, after its promise."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{script}: {done['exceptionDetails']['exception'].get('description')}")
        return done["result"].get("value")

    def wait_for(self, script: str, seconds: float = 60.0) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({script})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} is not true after {seconds:g} s; the page says: {self.text()}")
            time.sleep(0.1)

    def text(self) -> str:
        """What the page shows."""
        return self.evaluate("document.body.innerText")

    def press(self, *keys: str) -> None:
        """Presses keys: Tab, Enter, or characters."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        for key in keys:
            event = {"key": key, "code": key if len(key) > 1 else "", "windowsVirtualKeyCode": codes.get(key, 0)}
            text = "\r" if key == "Enter" else key if len(key) == 1 else ""
            self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
            self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Puts files into an input."""
        node = self.send("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")["result"]
        self.send("DOM.setFileInputFiles", files=[str(path) for path in paths], objectId=node["objectId"])

    def set_size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Shows the page as on a screen of that many pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def take_picture(self, path: Path) -> None:
        """Writes a picture of the whole page."""
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            block = os.read(self._answers, 1 << 20)
            if not block:
                raise RuntimeError("Chromium ended.")
            self._buffer += block
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
            self.complaints.append(answer["params"]["entry"]["text"])
        if answer.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(answer["params"]["exceptionDetails"]))
        return answer


@contextmanager
def open_browser(folder: Path, microphone: Path | None = None) -> Iterator[Page]:
    """Starts the program, and ends it afterwards.

    Args:
      folder: empty, for its profile.
      microphone: WAV file that its fake microphone plays again and again; None: beeps.
    """
    program = find_chromium()
    assert program
    flags = [*FLAGS, f"--user-data-dir={folder}"]
    flags += [f"--use-file-for-fake-audio-capture={microphone}"] if microphone else []
    flags += ["--no-sandbox"] if os.getuid() == 0 else []
    (to_read, commands), (answers, to_write) = os.pipe(), os.pipe()
    # Bash, because others know descriptors of one digit only.
    shell = ["bash", "-c", f'exec "$@" {COMMANDS}<&{to_read} {ANSWERS}>&{to_write}', "bash"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*shell, program, *flags], pass_fds=[to_read, to_write], stdout=log, stderr=log)
    os.close(to_read)
    os.close(to_write)
    try:
        yield Page(commands, answers)
    finally:
        process.terminate()
        process.wait(30)
        os.close(commands)
        os.close(answers)
