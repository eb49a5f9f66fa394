"""Where Python starts in the archive; there it is not in the package but beside it."""

import sys

from _fractal_runner.guard import main

if __name__ == "__main__":
    del sys.path[0]  # the archive: units are not to see it
    sys.exit(main(sys.argv[1:]))
