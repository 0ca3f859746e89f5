"""A picture of a server's page with pictures on it: python docs/images/make_page.py ADDRESS OUTPUT PICTURE …

It needs Playwright and a Chromium of the system. `drawn` as a picture is a fingerprint that this script draws.
"""

from __future__ import annotations

import io
import pathlib
import shutil
import sys
import tempfile

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright


def draw_fingerprint(path: pathlib.Path) -> None:
    """A whorl of dark ridges on light paper, 96 x 103 pixels, of no finger."""
    y, x = np.mgrid[:206, :192].astype(float)
    x, y = (x - 96) / 96, (y - 110) / 103
    rng = np.random.default_rng(0)
    waves = sum(
        0.05 / k * np.sin(k * (2.5 * x * np.cos(t) + 2.5 * y * np.sin(t)) + p)
        for k, t, p in zip(range(1, 7), *rng.uniform(0, 6.3, (2, 6)), strict=False)
    )
    radius = np.hypot(x + 0.35 * y**2, 0.8 * y)
    ridges = 0.5 + 0.5 * np.sin(2 * np.pi * 13 * (radius + waves) + np.arctan2(y, x))
    pressed = 1 / (1 + np.exp(18 * (np.hypot(x / 0.85, y / 0.9) - 1 + waves)))
    grey = 255 - 235 * pressed * (ridges > 0.45 + 0.1 * rng.standard_normal(ridges.shape))
    Image.fromarray(grey.astype(np.uint8)).resize((96, 103), Image.Resampling.LANCZOS).convert("RGB").save(path)


def main() -> None:
    """Uploads the pictures and writes what a browser then shows."""
    address, output, *pictures = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        drawn = pathlib.Path(folder) / "drawn.png"
        draw_fingerprint(drawn)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.goto(address)
        page.wait_for_selector("text=Classify")
        page.set_input_files("input[type=file]", [drawn if name == "drawn" else name for name in pictures])
        page.wait_for_selector("#map img", timeout=60_000)
        page.wait_for_timeout(3000)
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        browser.close()
    picture.convert("RGB").quantize(160).save(output, optimize=True)


if __name__ == "__main__":
    main()
