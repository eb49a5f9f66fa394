"""A Fractal task for tests: its arguments say what it does."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--args-json", required=True)
    parser.add_argument("--out-json", required=True)
    paths = parser.parse_args()
    if Path(paths.out_json).exists():
        sys.exit("the output file is there already")
    args = json.loads(Path(paths.args_json).read_text(encoding="utf-8"))

    if "started" in args:  # a file that gets a line with the process id for every start
        with Path(args["started"]).open("a", encoding="utf-8") as started:
            started.write(f"{os.getpid()}\n")
    if "say" in args:
        print(args["say"])
    if "daemon" in args and not Path(args["daemon"]).exists():
        # A grandchild that leaves the session, and survives most things; the first time only.
        code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(300)"
        daemon = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        Path(args["daemon"]).write_text(str(daemon.pid), encoding="utf-8")
    if "wait_for" in args:  # until a file is there
        while not Path(args["wait_for"]).exists():
            time.sleep(0.01)
    if "kill" in args:
        os.kill(os.getpid(), getattr(signal, args["kill"]))
    if "kill_parent" in args and not Path(args["kill_parent"]).exists():
        Path(args["kill_parent"]).touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(300)
    if "exit" in args:
        sys.exit(args["exit"])
    if "raise" in args:
        raise ValueError(args["raise"])
    if "import" in args:
        __import__(args["import"])
    if "report" in args:
        about = {
            "pid": os.getpid(),
            "argv": sys.argv,
            "path": sys.path,
            "file": __file__,
            "main": sys.modules["__main__"].__dict__ is globals(),
            "cwd": str(Path.cwd()),
            "session": os.getsid(0),
            "stdin": sys.stdin.read(),
            "random": random.random(),
            "environment": dict(os.environ),
            "modules": sorted(sys.modules),
            "temporary": tempfile.gettempdir(),
            "fds": [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()][3:],
        }
        Path(args["report"]).write_text(json.dumps(about), encoding="utf-8")
    if "raw_output" in args:
        Path(paths.out_json).write_text(args["raw_output"], encoding="utf-8")
    elif "output" in args:
        Path(paths.out_json).write_text(json.dumps(args["output"]), encoding="utf-8")
    if "fill_disk" in args:
        with suppress(OSError), Path(args["fill_disk"]).open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
