#!/bin/sh
# Starts munge, then what this machine of the cluster is:
#   entrypoint.sh controller | node NAME | login [OPTION OF SSHD ...]
set -eu
role=$1
shift

start_munge() {
    install -d -o munge -g munge -m 755 "$MUNGE_DIR"
    (umask 077 && printf '%s' "$MUNGE_KEY" | base64 -d >"$MUNGE_DIR/munge.key")
    chown munge:munge "$MUNGE_DIR/munge.key"
    unset MUNGE_KEY
    # --force: a socket that a killed container left behind is no reason to stay away
    setpriv --reuid=munge --regid=munge --clear-groups munged --force \
        --socket="$MUNGE_DIR/munge.socket.2" --key-file="$MUNGE_DIR/munge.key" \
        --pid-file="$MUNGE_DIR/munged.pid" --seed-file="$MUNGE_DIR/munged.seed" \
        --log-file="$MUNGE_DIR/munged.log"
}

start_sshd() {
    umask 077
    printf '%s' "$SSH_HOST_KEY" | base64 -d >"$SSH_DIR/host_key"
    umask 022
    printf 'ssh-ed25519 %s\n' "$SSH_USER_PUBLIC_KEY" >"$SSH_DIR/authorized_keys"
    unset SSH_HOST_KEY
    install -d /run/sshd
    exec /usr/sbin/sshd -D -e -f "$SSH_DIR/sshd_config" \
        -o HostKey="$SSH_DIR/host_key" -o AuthorizedKeysFile="$SSH_DIR/authorized_keys" "$@"
}

case $role in
controller)
    start_munge
    exec slurmctld -D "$@"
    ;;
node)
    name=$1
    shift
    start_munge
    exec slurmd -D -N "$name" "$@"
    ;;
login)
    start_munge
    start_sshd "$@"
    ;;
*)
    echo "entrypoint.sh: $role is no role of a machine: controller, node NAME or login" >&2
    exit 2
    ;;
esac
