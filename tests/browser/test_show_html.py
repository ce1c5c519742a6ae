"""The page of `cadenza show --html` in a real browser: it draws, filters, takes keys, and asks nobody for anything."""

import json
import re
import shutil
import struct
import subprocess
import zlib
from html import unescape
from pathlib import Path

import pytest

from tests.acceptance.commands import Project

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=5000",
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian and Ubuntu: apt install chromium"),
]

PROBE = """
<script>
const out = {};
const nodes = [...document.querySelectorAll("details.node")];
const shown = () => nodes.filter((node) => node.offsetParent !== null && !node.hidden).length;
const options = (key) => ({key, bubbles: true, cancelable: true});
const press = (target, key) => target.dispatchEvent(new KeyboardEvent("keydown", options(key)));
const key = (name) => press(document.activeElement, name);
const focused = () => document.activeElement.parentElement.dataset.path;
try {
  out.nodes = nodes.length;
  out.width = [document.documentElement.scrollWidth, innerWidth];
  out.background = getComputedStyle(document.body).backgroundColor;
  const bars = [...document.querySelectorAll(".bar")].map((bar) => bar.getBoundingClientRect());
  out.bars = bars.length;
  out.outside = bars.filter((box) => box.width < 1 || box.left < 0 || box.right > innerWidth + 1).length;
  out.tools = getComputedStyle(document.getElementById("tools")).display !== "none";
  out.before = shown();
  const filter = document.getElementById("filter");
  press(document, "/");
  out.slash = document.activeElement === filter;
  filter.value = "FILTER";
  filter.dispatchEvent(new Event("input"));
} catch (error) { out.error = String(error); }
setTimeout(() => {
  try {
    out.filtered = shown();
    out.found = document.getElementById("found").textContent;
    const filter = document.getElementById("filter");
    filter.value = "";
    filter.dispatchEvent(new Event("input"));
    const trouble = document.getElementById("trouble");
    trouble.click();
    out.trouble = shown();
    trouble.click();
    const summary = document.querySelector("#tree summary");
    summary.focus();
    out.first = focused();
    key("ArrowDown");
    out.second = focused();
    key("ArrowRight");
    out.opened = document.activeElement.parentElement.open;
    key("ArrowLeft");
    out.closed = !document.activeElement.parentElement.open;
    key("End");
    out.last = focused();
    document.getElementById("expand").click();
    out.open = nodes.filter((node) => node.open).length;
    document.getElementById("theme").click();
    out.other = getComputedStyle(document.body).backgroundColor;
  } catch (error) { out.error = String(error); }
  const said = document.createElement("pre");
  said.id = "probe";
  said.textContent = JSON.stringify(out);
  document.body.append(said);
}, 400);
</script>
"""


def browse(page: Path, profile: Path, *flags: str) -> str:
    """What Chromium prints for a page."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def probed(page: Path, tmp_path: Path, words: str, *flags: str) -> dict[str, object]:
    """What the page says of itself, after it was filtered by `words` and driven by keys."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", text)  # or the probe could not run
    probe = tmp_path / "probe.html"
    probe.write_text(text.replace("</body>", PROBE.replace("FILTER", words) + "</body>"), encoding="utf-8")
    dom = browse(probe, tmp_path / "profile", "--dump-dom", *flags)
    said = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert said, dom[-2000:]
    return json.loads(unescape(said[1]))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("pages"))
    made("run", "flows.py:wide", "2000", "--id", "many")
    made("run", "flows.py:failing", "1", "--id", "failing")
    made("run", "flows.py:asks_child", "--id", "child")
    for run in ("many", "failing", "child"):
        done = made("show", run, "--html", f"{run}.html")
        assert done.code == 0, done.err
    return made


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (420, 800)])
def test_two_thousand_steps_are_drawn_filtered_and_walked_by_keys(
    project: Project, tmp_path: Path, width: int, height: int
) -> None:
    said = probed(project.folder / "many.html", tmp_path, "b1999/", f"--window-size={width},{height}")
    assert "error" not in said
    assert (said["nodes"], said["before"], said["filtered"], said["found"]) == (2000, 2000, 1, "1 of 2000")
    assert said["trouble"] == 0
    assert (said["bars"], said["outside"]) == (2000, 0)
    assert (said["tools"], said["slash"]) == (True, True)
    assert (said["first"], said["second"], said["last"]) == ("b1/classifier#1", "b2/classifier#1", "b2000/classifier#1")
    assert (said["opened"], said["closed"], said["open"]) == (True, True, 2000)
    scroll, inner = said["width"]  # type: ignore[misc]  # two numbers
    assert scroll <= inner


def test_trouble_and_child_runs_are_found(project: Project, tmp_path: Path) -> None:
    said = probed(project.folder / "failing.html", tmp_path, "missing")
    assert (said["nodes"], said["trouble"], said["filtered"]) == (1, 1, 1)
    said = probed(project.folder / "child.html", tmp_path, "colour")
    assert (said["nodes"], said["filtered"], said["found"]) == (3, 2, "1 of 3")  # the question, and the child above it


def test_the_page_follows_light_and_dark_and_switches(project: Project, tmp_path: Path) -> None:
    page = project.folder / "failing.html"
    light = probed(page, tmp_path, "x", "--blink-settings=preferredColorScheme=1")
    dark = probed(page, tmp_path, "x", "--blink-settings=preferredColorScheme=0")
    assert brightness(str(light["background"])) > 200
    assert brightness(str(dark["background"])) < 60
    assert (light["other"], dark["other"]) == (dark["background"], light["background"])


def brightness(colour: str) -> float:
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3


def test_the_page_as_it_is_runs_its_own_script_and_draws(project: Project, tmp_path: Path) -> None:
    page = project.folder / "many.html"
    dom = browse(page, tmp_path / "profile", "--dump-dom")
    assert re.search(r'<div class="tools" id="tools">', dom), "its policy refused its own script"
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", "--window-size=1000,800", f"--screenshot={picture}")
    width, height, colours = read_png(picture)
    assert (width, height) == (1000, 800)
    assert colours > 20


def read_png(path: Path) -> tuple[int, int, int]:
    """Width, height, and how many different lines of pixels there are."""
    raw = path.read_bytes()
    width, height = struct.unpack(">II", raw[16:24])
    at, packed = 8, b""
    while at < len(raw):
        (length,) = struct.unpack(">I", raw[at : at + 4])
        if raw[at + 4 : at + 8] == b"IDAT":
            packed += raw[at + 8 : at + 8 + length]
        at += 12 + length
    pixels = zlib.decompress(packed)
    row = len(pixels) // height
    return width, height, len({pixels[index * row : (index + 1) * row] for index in range(height)})
