"""Fetches the demo's image: real nuclei, which the wheel of stardist carries. Nothing of it is installed.

python nuclei_image.py FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from environments import find_uv

REQUIREMENT = "stardist==0.9.2"
MEMBER = "stardist/data/images/img2d.tif"
# The image is the same in the wheels of all platforms: any machine can take this one.
PLATFORM = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary", ":all:")


def download_wheel(folder: Path) -> Path:
    """Download the wheel, without what it depends on, and return its path."""
    pip = [find_uv(), "tool", "run", "--quiet", "--python", sys.executable, "pip"]
    download = [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-deps", *PLATFORM]
    subprocess.run([*download, "--dest", folder, REQUIREMENT], check=True)
    return next(folder.glob("*.whl"))


def fetch_image(folder: Path) -> Path:
    """Return the path of the image, which is downloaded where it is missing."""
    image = folder / "nuclei.tif"
    if not image.is_file():
        print(f"Taking the image of nuclei out of the wheel of {REQUIREMENT} ...", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as temporary, ZipFile(download_wheel(Path(temporary))) as wheel:
            unfinished = Path(temporary) / image.name
            unfinished.write_bytes(wheel.read(MEMBER))
            unfinished.rename(image)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch the demo's image of nuclei.")
    parser.add_argument("folder", type=Path, help="where the image comes to lie")
    print(fetch_image(parser.parse_args().folder.resolve()))


if __name__ == "__main__":
    main()
