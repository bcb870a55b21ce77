"""The README's first picture: the top of the tour's page, its clips moving in step.

python scripts/tour_picture.py      after python scripts/demo.py --tour; needs Playwright and Chromium
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil

import host
import tour
from PIL import Image, ImageSequence
from playwright.sync_api import sync_playwright

TARGET = host.ROOT / "web" / "docs" / "tour.webp"
WIDTH, HEIGHT, EVERY, MILLISECONDS = 1240, 800, 4, 160
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What is not on the picture.
HIDDEN = (
    "#figures, #ran, #differs, #plan, footer, #look p ~ p, #look .bars, #look .key, #look details { display: none }"
)
SET = """(sources) => Promise.all([...document.querySelectorAll(".card > img")].map((image, i) => {
    image.src = sources[i];
    return image.decode();
}))"""


def main() -> None:
    clips = [frames(tour.PAGE.parent / way["clip file"][0]) for way in read_ways()]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(tour.PAGE.as_uri())
        page.add_style_tag(content=HIDDEN + " main { padding: 36px 32px 20px } h2 { margin-top: 30px }")
        shots = []
        for sources in list(zip(*clips))[::EVERY]:
            page.evaluate(SET, list(sources))
            shots.append(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB"))
        browser.close()
    shots[0].save(TARGET, save_all=True, append_images=shots[1:], duration=MILLISECONDS, loop=0, quality=60, method=6)
    host.say(f"{TARGET}: {len(shots)} frames of {shots[0].size}, {TARGET.stat().st_size // 1024} KiB")


def read_ways() -> list[dict]:
    return json.loads((tour.FOLDER / "tour.json").read_text())


def frames(clip) -> list[str]:
    """The frames of an animated picture as data addresses."""
    found = []
    with Image.open(clip) as animation:
        for frame in ImageSequence.Iterator(animation):
            file = io.BytesIO()
            frame.convert("RGB").save(file, "PNG")
            found.append(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")
    return found


def program() -> str | None:
    return os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)


if __name__ == "__main__":
    main()
