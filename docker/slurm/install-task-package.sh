#!/bin/sh
# Makes the environment of a task package where all machines see it: install-task-package NAME VERSION
set -eu
if [ $# -ne 2 ]; then
    echo "usage: install-task-package NAME VERSION" >&2
    exit 2
fi
environment=${ENVIRONMENTS:-/shared/environments}/$1-$2
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check "$1==$2"
"$environment/bin/python" -m compileall -q "$environment/lib" || true # tests of packages may not compile
echo "$environment"
