#!/bin/sh
# Starts Redis with the password of $REDIS_PASSWORD, which stands on no command line: start.sh [OPTION ...]
set -eu
umask 077
config=$(mktemp)
printf 'requirepass "%s"\nappendonly yes\n' "$REDIS_PASSWORD" >"$config"
unset REDIS_PASSWORD
exec redis-server "$config" "$@"
