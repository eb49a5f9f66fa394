"""A task that does nothing but read its arguments and write an empty output."""

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--args-json", required=True)
    parser.add_argument("--out-json", required=True)
    paths = parser.parse_args()
    json.loads(Path(paths.args_json).read_text())
    Path(paths.out_json).write_text("{}")


if __name__ == "__main__":
    main()
