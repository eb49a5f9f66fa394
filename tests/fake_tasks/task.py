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
    Path(args.out_json).write_text(json.dumps(output), encoding="utf-8")


def ends_with_one_of(zarr_url, endings):
    return any(zarr_url.endswith(ending) for ending in endings)
