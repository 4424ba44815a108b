"""How fast the curation page is, in a real browser: first picture, sections a second, memory of the server.

    python benchmarks/curate.py [--size 184,1200,1200] [--picks 10000] [--quick]
    python benchmarks/curate.py --picture docs/curate.jpg

Needs chromium and chromedriver. Prints one line a figure. The bounds, for 10^4 picks in a tomogram of 1 GB on two free
cores: first picture within 2 s, 10 sections a second, 500 MB.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"


def made(folder: Path, shape: tuple[int, int, int], n: int) -> None:
    """A volume of noise and n picks in it."""
    import mrcfile

    rng = np.random.default_rng(0)
    with mrcfile.new_mmap(folder / "A.mrc", shape, 2) as file:
        for z in range(shape[0]):
            file.data[z] = rng.standard_normal(shape[1:], dtype=np.float32)
        file.voxel_size = 10.0
    at = rng.uniform(0, np.array(shape) * 10.0, (n, 3))
    rows = [f"ball,{x:.2f},{y:.2f},{z:.2f},{s:.4f}" for (z, y, x), s in zip(at, rng.random(n))]
    (folder / "picks").mkdir()
    (folder / "picks" / "A.csv").write_text("object,x,y,z,score\n" + "\n".join(rows) + "\n")
    (folder / "objects.json").write_text('[{"name": "ball", "radius": 60}]')
    (folder / "picks" / "objects.json").write_text('[{"name": "ball", "radius": 60}]')


def phantom(folder: Path) -> list[str]:
    """A simulated run with the shipped model's candidates; gives the command's further words."""
    tomopick = [sys.executable, "-m", "tomopick"]
    project = Path("sim", "copick.json")
    simulate = ["simulate", "sim", "--shape", "96,320,320", "--seed", "3", "--tomo-type", "denoised"]
    subprocess.run([*tomopick, *simulate], check=True, cwd=folder)
    pick = ["pick", "default", str(project), "--out", "records", "--tomo-type", "denoised"]
    subprocess.run([*tomopick, *pick, "--session-id", "1", "--keep-below"], check=True, cwd=folder)
    return [str(project), str(project), "--picks", "*:tomopick/1", "--truth", "*:simulation/0",
            "--tomo-type", "denoised", "--model", "default"]  # fmt: skip


def browser(wide: int, tall: int, pixels: float = 1.0):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={wide},{tall}",
                 f"--force-device-scale-factor={pixels:g}"):  # fmt: skip
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def until(driver, script: str, seconds: float = 120) -> float:
    """Seconds until a script in the page is true."""
    began = time.perf_counter()
    while not driver.execute_script(f"return {script}"):
        if time.perf_counter() - began > seconds:
            raise SystemExit(f"the page never came to: {script}")
        time.sleep(0.01)
    return time.perf_counter() - began


def memory(pid: int) -> float:
    """Largest resident memory of a process [MB]."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1e3


def measure(driver, url: str, pid: int, sections: int) -> None:
    began = time.perf_counter()
    driver.get(url)
    until(driver, "Number(document.body.dataset.planes || 0) >= 1")
    print(f"first picture: {time.perf_counter() - began:.2f} s", flush=True)
    until(driver, "document.getElementById('gallery').dataset.ready")
    print(f"with the gallery: {time.perf_counter() - began:.2f} s", flush=True)
    until(driver, "Object.values(pictures).length === 3 && Object.values(pictures).every(p => p.whole)")
    print(f"all three sections whole: {time.perf_counter() - began:.2f} s", flush=True)
    script = """
      const [n, done] = arguments, began = performance.now();
      (async () => {
        for (let i = 0; i < n; i++) {
          scroll(0, i % 40 < 20 ? 1 : -1);
          while (!(pictures[0] && pictures[0].key === key(0))) await new Promise(r => setTimeout(r, 2));
        }
        done((performance.now() - began) / 1000);
      })();"""
    seconds = driver.execute_async_script(script, sections)
    print(f"sections along z: {sections / seconds:.1f} a second", flush=True)
    print(f"server: {memory(pid):.0f} MB at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="184,1200,1200")
    parser.add_argument("--picks", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="a small volume and few picks")
    parser.add_argument(
        "--picture",
        type=Path,
        help="write a picture of the page with a phantom, and a dark one beside it; measure nothing",
    )
    options = parser.parse_args()
    picture = options.picture and options.picture.absolute()
    z, y, x = (int(v) for v in ("32,200,240" if options.quick else options.size).split(","))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.picture:
            words = phantom(folder)
        else:
            made(folder, (z, y, x), 500 if options.quick else options.picks)
            words = [str(folder / "picks"), ".", "--threshold", "ball=0.5"]
        words = [word.removeprefix(f"{folder}/") for word in words]  # the page shows what it was told
        command = [sys.executable, "-m", "tomopick", "curate", *words, "--out", "out", "--no-browser"]
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        driver = browser(1200, 1280, 1.2) if options.picture else browser(1400, 1500)
        try:
            url = server.stdout.readline().strip()
            driver.set_script_timeout(120)
            if not options.picture:
                measure(driver, url, server.pid, 20 if options.quick else 100)
                return
            for scheme, ending in (("light", ""), ("dark", "-dark")):
                media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
                photograph(driver, url, picture.with_stem(picture.stem + ending))
        finally:
            driver.quit()
            server.terminate()
            server.wait(120)


def photograph(driver, url: str, path: Path) -> None:
    """The page at its first ribosome."""
    driver.get(url)
    until(driver, "document.getElementById('gallery').dataset.ready")
    driver.execute_script("S.object = 3; choose([]); refresh(true)")
    until(driver, "document.getElementById('gallery').dataset.ready.split('/')[1] === '3'")
    driver.execute_script("step(1)")
    until(driver, "Object.values(pictures).every(p => p.whole && p.key === key(Number(p.key.split('|')[1])))")
    time.sleep(0.5)
    save(driver.get_screenshot_as_png(), path)


def save(png: bytes, path: Path) -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.save(path, quality=82, optimize=True)
    print(path, image.size)


if __name__ == "__main__":
    main()
