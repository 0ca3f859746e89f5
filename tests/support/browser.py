"""Opens a page in headless Chromium, at a desk and on a phone, light and dark: what a parser cannot see.

It fails where the console complains, an image does not load, anything is asked of the network, or the page is wider
than the window; and it leaves screenshots and a PDF to be looked at.

Run: python tests/support/browser.py runs/photos/report.html screenshots
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WINDOWS = {"desk": (1280, 900), "phone": (390, 844)}
MAX_HEIGHT_PX = 16000
"""Of a screenshot; what is below is not in it."""


class Browser:
    """Chromium, spoken to over a pipe by the DevTools protocol."""

    def __init__(self, program: str):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (to_read, to_write), (its_read, its_write) = os.pipe(), os.pipe()
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
        # The protocol is on descriptors 3 and 4, which only a shell can promise.
        line = f'exec "$0" "$@" 3<&{to_read} 4>&{its_write}'
        self._process = subprocess.Popen(
            ["sh", "-c", line, program, *flags, f"--user-data-dir={self._folder.name}"],
            pass_fds=(to_read, its_write), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(its_write)
        self._to, self._of = os.fdopen(to_write, "wb"), os.fdopen(its_read, "rb")
        self._number, self._session, self._rest = 0, "", b""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._to.close()
        self._of.close()
        self._folder.cleanup()

    def ask(self, method: str, **params: Any) -> Any:
        """Does something, and gives what it answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        return self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )["result"].get("value")

    def open(self, url: str, size: tuple[int, int], scheme: str) -> None:
        """Opens a page in a window of a size, its colour scheme light or dark, and waits until it is there."""
        width, height = size
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._of.fileno(), 1 << 20)
            if not more:
                raise RuntimeError("the browser has ended")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


def faults(browser: Browser, page: pathlib.Path) -> list[str]:
    """What is wrong with the page that is open."""
    wanted = "[...document.images].filter((i) => !(i.complete && i.naturalWidth)).map((i) => i.alt)"
    found = [f"image not loaded: {alt}" for alt in browser.evaluate(wanted)]
    if (wide := browser.evaluate("document.documentElement.scrollWidth - window.innerWidth")) > 0:
        found.append(f"{wide} px wider than the window")
    for event in browser.events:
        params = event.get("params", {})
        if event["method"] == "Log.entryAdded":
            found.append(f"console: {params['entry']['text']}")
        elif event["method"] == "Runtime.exceptionThrown":
            found.append(f"exception: {params['exceptionDetails']['text']}")
        elif event["method"] == "Runtime.consoleAPICalled":
            found.append(f"console: {params['args']}")
        elif event["method"] == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith("data:") and url != page.as_uri():
                found.append(f"asked of the network: {url}")
    return found


def look(page: pathlib.Path, output: pathlib.Path, program: str) -> list[str]:
    """Opens a page in every window and scheme; writes screenshots and a PDF; returns what is wrong."""
    output.mkdir(parents=True, exist_ok=True)
    found = []
    with Browser(program) as browser:
        for window, size in WINDOWS.items():
            for scheme in ("light", "dark"):
                browser.open(page.as_uri(), size, scheme)
                found += [f"{window}, {scheme}: {fault}" for fault in faults(browser, page)]
                height = min(browser.evaluate("document.documentElement.scrollHeight"), MAX_HEIGHT_PX)
                clip = {"x": 0, "y": 0, "width": size[0], "height": height, "scale": 1}
                shot = browser.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
                (output / f"{window}_{scheme}.png").write_bytes(base64.b64decode(shot))
        if browser.evaluate("document.querySelectorAll('button.copy').length"):
            browser.evaluate("document.querySelector('button.copy').click()")
            browser.evaluate("new Promise((done) => setTimeout(done, 300))")
            if (said := browser.evaluate("document.querySelector('button.copy').textContent")) == "Copy the text":
                found.append(f"the button copies nothing: {said}")
        printed = browser.ask("Page.printToPDF", printBackground=False)["data"]
        (output / "printed.pdf").write_bytes(base64.b64decode(printed))
    return found


def main() -> int:
    """Looks at the page that is named."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        print(f"no browser found; one of {', '.join(NAMES)} is needed")
        return 2
    found = look(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), program)
    print("\n".join(dict.fromkeys(found)) or "nothing is wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
