"""A page in headless Chromium, driven over its debugging pipe; skips where there is none."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 30  # seconds for what takes one on a quiet machine


class Browser:
    """One page of a browser of its own; `with` closes it."""

    def __init__(self, home: Path, width: int = 1200, height: int = 900) -> None:
        tool = next(filter(None, map(shutil.which, NAMES)), None)
        if tool is None:
            pytest.skip("no Chromium here")
        read, theirs = os.pipe()
        mine, write = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4; `exec 8<` frees both first.
        done = f'exec 8<&{mine} 9>&{theirs}; exec 3<&8 4>&9; exec "$@"'
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--remote-debugging-pipe", f"--user-data-dir={home / 'profile'}",
            f"--window-size={width},{height}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", done, "bash", tool, *options],
            pass_fds=(mine, theirs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(mine)
        os.close(theirs)
        os.set_blocking(read, False)
        self._read, self._write, self._id, self._rest = read, write, 0, b""
        self.said: list[str] = []  # console messages and errors of the page
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{part}.enable")
        self.downloads = home / "downloads"
        self.requests: list[str] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol and its answer."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session is not None and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for answer in self._answers():
                if answer.get("id") == self._id:
                    assert "error" not in answer, answer
                    return answer["result"]
        raise TimeoutError(method)

    def open(self, path: Path) -> None:
        """Open a file from disk, as a double click does."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, code: str) -> Any:
        """The value of an expression in the page; the page's policy does not bind it."""
        done = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, code: str) -> None:
        """Until an expression in the page holds."""
        end = time.monotonic() + PATIENCE
        while not self.run(code):
            assert time.monotonic() < end, code
            time.sleep(0.05)

    def key(self, name: str, code: int, text: str = "") -> None:
        """Press a key."""
        more = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def give(self, selector: str, path: Path) -> None:
        """Choose a file in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def downloaded(self) -> Path:
        """The one file that the page has handed over, once it is whole."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = list(self.downloads.glob("*.json")) if self.downloads.is_dir() else []
            if found:
                assert len(found) == 1
                return found[0]
            self.run("1")
            time.sleep(0.05)
        raise TimeoutError("nothing was downloaded")

    def picture(self, path: Path) -> None:
        """What the window shows, as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def paper(self) -> bytes:
        """The page as it is printed, a PDF."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def _answers(self) -> list[dict[str, Any]]:
        try:
            data = os.read(self._read, 2**20)
            assert data, "the browser is gone"
        except BlockingIOError:
            time.sleep(0.005)
            return []
        *whole, self._rest = (self._rest + data).split(b"\0")
        rows = [json.loads(one) for one in whole]
        for row in rows:
            match row.get("method"):
                case "Log.entryAdded" | "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                    self.said.append(json.dumps(row["params"]))
                case "Network.requestWillBeSent":
                    self.requests.append(row["params"]["request"]["url"])
        return rows
