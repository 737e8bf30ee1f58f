"""
Make the pictures of the README and of docs/ from real runs on the digits of `./scripts/demo`, which
must have run. Needs Chromium, and tmux for the terminal.

    python scripts/make_pictures.py [NAME ...]      such as "report"; without a name: all of them
"""

import contextlib
import io
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from allencv.runtime.whole_files import whole_file

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
RUN = ROOT / "demo" / "run"
DIGITS = ROOT / "demo" / "digits"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
MOST_BYTES = 150_000
SCALE = 2
"""Pixels of a picture per pixel of a page."""
COLUMNS = 80
MOST_LINES = 60
"""The size of the terminal, and how many lines of it are shown."""

ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "DATA": "digits",
}


def run(command: str, folder: Path) -> None:
    result = subprocess.run(
        shlex.split(command), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )
    if result.returncode:
        sys.exit(f"{command}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")


def save(screenshot: bytes, name: str) -> None:
    """Write a picture as WebP, in the best quality that keeps it small."""
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    for quality in (90, 80, 70, 55, 40):
        data = io.BytesIO()
        image.save(data, "WEBP", quality=quality, method=6)
        if len(data.getvalue()) <= MOST_BYTES:
            break
    IMAGES.mkdir(exist_ok=True)
    with whole_file(IMAGES / f"{name}.webp") as path:
        Path(path).write_bytes(data.getvalue())
    print(
        f"docs/images/{name}.webp  {image.width} x {image.height}  {len(data.getvalue()):,} bytes"
    )


CUT = """([top, most]) => {
  const leaves = [...document.body.querySelectorAll("*")].filter((each) => !each.children.length);
  const boxes = leaves.map((each) => each.getBoundingClientRect()).filter((box) => box.height);
  for (let y = most; y > 0; y--) {
    if (!boxes.some((box) => box.top - 6 < top + y && top + y < box.bottom + 6)) return y;
  }
  return most;
}"""
"""Return the largest height of a picture that cuts through nothing on the page."""


def photograph(page: Page, top: float = 0, height: int = 1000) -> bytes:
    """Return the part of a page from `top` to `height` or less below it."""
    page.evaluate("scrollTo(0, 0)")
    width = page.viewport_size["width"]  # type: ignore[index]
    height = page.evaluate(CUT, [top, height])
    clip = {"x": 0, "y": top, "width": width, "height": height}
    return page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]


@contextlib.contextmanager
def opened(browser: Browser, url: str, width: int = 900) -> Iterator[Page]:
    """Open a page that loads nothing from another host."""
    context = browser.new_context(
        viewport={"width": width, "height": 700}, device_scale_factor=SCALE
    )
    local = ("file:", "data:", "blob:", "http://127.0.0.1")
    context.route(lambda address: not address.startswith(local), lambda route: route.abort())
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    yield page
    context.close()


def make_folder(folder: Path) -> None:
    """Copy the digits and the run, and draw one image of each digit large, as a photo would be."""
    shutil.copytree(DIGITS, folder / "digits")
    shutil.copytree(RUN, folder / "runs" / "digits")
    shutil.copytree(ROOT / "training_config", folder / "training_config")
    (folder / "photos").mkdir()
    for digit in sorted((DIGITS / "test").iterdir()):
        file = sorted(digit.iterdir())[0]
        large = Image.open(file).resize((240, 240), Image.Resampling.BICUBIC)
        large.save(folder / "photos" / f"{digit.name}_{file.name}")


# The pictures. Each takes the browser and a folder with `digits`, `photos` and `runs/digits`.


def serving(browser: Browser, folder: Path) -> None:
    command = ["allencv", "serve", "runs/digits", "--port", "0"]
    server = subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        with opened(browser, address) as page:
            page.set_input_files("#files", sorted((folder / "photos").iterdir())[:8])
            page.wait_for_timeout(3000)
            save(page.screenshot(full_page=True), "serving")
    finally:
        server.terminate()
        server.wait(30)


def report(browser: Browser, folder: Path) -> None:
    run("allencv report runs/digits -o report.html", folder)
    with opened(browser, (folder / "report.html").as_uri()) as page:
        save(photograph(page, height=1100), "report")
        page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        heading = page.get_by_role("heading", name="Most confident mistakes").first.bounding_box()
        save(photograph(page, heading["y"] - 12, height=700), "mistakes")  # type: ignore[index]


def check_data(browser: Browser, folder: Path) -> None:
    """Damage some of the images first."""
    flawed = folder / "flawed"
    shutil.copytree(DIGITS, flawed)
    first, second, third = sorted((flawed / "train" / "3").iterdir())[:3]
    first.write_bytes(first.read_bytes()[:60])
    shutil.copy(second, flawed / "val" / "3" / "copy.png")
    Image.new("L", (8, 8), 255).save(flawed / "train" / "1" / "blank.png")
    shutil.copy(third, flawed / "train" / "8" / "wrong.png")
    config = "training_config/digits.jsonnet --html data.html"
    subprocess.run(
        ["allencv", "check-data", *config.split()],
        cwd=folder,
        env={**ENVIRONMENT, "DATA": "flawed"},
        capture_output=True,
    )
    with opened(browser, (folder / "data.html").as_uri()) as page:
        save(photograph(page), "check_data")


def batch(browser: Browser, folder: Path) -> None:
    run("allencv show-batch training_config/digits.jsonnet --count 4 -o batch.png", folder)
    save((folder / "batch.png").read_bytes(), "batch")


def fit(browser: Browser, folder: Path) -> None:
    terminal(browser, folder, "allencv fit digits -o runs/first --epochs 15", "fit")


def classify(browser: Browser, folder: Path) -> None:
    terminal(browser, folder, "allencv classify runs/digits photos", "classify")


def terminal(browser: Browser, folder: Path, command: str, name: str) -> None:
    """Run a command in a terminal of 80 columns, and save what is left on its screen."""
    tmux = ["tmux", "-L", f"allencv-{os.getpid()}", "-f", "/dev/null"]
    size = ["-x", str(COLUMNS), "-y", "200"]
    wait = "; printf '\\nended '; sleep 600"

    def screen() -> str:
        shown = [*tmux, "capture-pane", "-e", "-p", "-t", "0"]
        return subprocess.run(shown, capture_output=True, text=True, check=True).stdout

    environment = {**ENVIRONMENT, "PS1": "$ ", "COLORTERM": "truecolor"}
    subprocess.run(
        [*tmux, "new-session", "-d", *size, command + wait], cwd=folder, env=environment, check=True
    )
    try:
        for _ in range(600):
            time.sleep(1)
            if "\nended" in screen():
                break
        shown = screen().split("\nended")[0].rstrip()
    finally:
        subprocess.run([*tmux, "kill-server"])
    lines = shown.splitlines()[-MOST_LINES:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("\n".join([f"$ {command}", *lines])))
    drawing = folder / f"{name}.html"
    style = "<style>body {margin: 0} svg {width: 100%; height: auto; display: block}</style>"
    drawing.write_text(style + console.export_svg(title=""), encoding="utf-8")
    with opened(browser, drawing.as_uri()) as page:
        save(page.locator("svg").first.screenshot(), name)


PICTURES: Dict[str, Callable[[Browser, Path], None]] = {
    each.__name__: each for each in (serving, report, check_data, batch, fit, classify)
}


def main() -> None:
    names = sys.argv[1:] or list(PICTURES)
    if unknown := set(names) - set(PICTURES):
        sys.exit(f"no picture {sorted(unknown)}; expected some of {', '.join(PICTURES)}")
    if not RUN.is_dir():
        sys.exit("there is no demo/run; run ./scripts/demo first")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        make_folder(folder)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for each in names:
            PICTURES[each](browser, folder)
        browser.close()


if __name__ == "__main__":
    main()
