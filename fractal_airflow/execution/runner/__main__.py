"""Where Python starts in the archive; there it is not in the package but beside it."""

import sys

if sys.version_info < (3, 9):  # noqa: UP036  # said before anything is imported that it cannot even parse
    sys.stderr.write("Python %d.%d is too old: 3.9 or newer is needed\n" % sys.version_info[:2])  # noqa: UP031
    sys.exit(67)

if __name__ == "__main__":
    if sys.argv[1:2] == ["cluster"]:
        from _fractal_runner.cluster.program import main
    else:
        from _fractal_runner.guard import main
    del sys.path[0]  # the archive: units are not to see it
    sys.exit(main(sys.argv[1:]))
