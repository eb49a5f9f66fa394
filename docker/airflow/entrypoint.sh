#!/bin/sh
# Makes files of the secrets that only exist as variables, then runs its arguments.
set -eu
umask 077

mkdir -p "$HOME/.ssh"
printf '%s' "$SSH_USER_KEY" | base64 -d >"$HOME/.ssh/id_ed25519"
printf '%s\n' "$SSH_KNOWN_HOSTS" >"$HOME/.ssh/known_hosts"
unset SSH_USER_KEY

if [ -n "${ADMIN_PASSWORD:-}" ]; then
    printf '{"admin": "%s"}' "$ADMIN_PASSWORD" >"$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
    unset ADMIN_PASSWORD
fi

umask 022
exec "$@"
