"""The command line that every Fractal task has: arguments in a JSON file, output into another."""

import argparse
import json
from pathlib import Path


def run(function):
    parser = argparse.ArgumentParser()
    parser.add_argument("--args-json", required=True)
    parser.add_argument("--out-json", required=True)
    args = parser.parse_args()
    if Path(args.out_json).exists():
        raise SystemExit(f"Output file {args.out_json} already exists")
    output = function(**json.loads(Path(args.args_json).read_text(encoding="utf-8")))
    # A text goes out as it is, so that an output can be no JSON at all.
    text = output if isinstance(output, str) else json.dumps(output)
    Path(args.out_json).write_text(text, encoding="utf-8")


def ends_with_one_of(zarr_url, endings):
    return any(zarr_url.endswith(ending) for ending in endings)


def note_run(zarr_url, text):
    """Note beside an image that it was worked on; return how often that was."""
    notes = Path(zarr_url, "runs.txt")
    with notes.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    return len(notes.read_text(encoding="utf-8").splitlines())
