#!/usr/bin/env python3
"""Write .env beside this file: every password and key of the deployment, made anew. Needs ssh-keygen.

python3 make_env.py [FILE]
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

MUNGE_KEY_BYTES = 128


def make_secrets() -> dict[str, str]:
    """Return new secrets by the names that compose.yaml knows them by; keys are in base64, on one line."""
    user_key, user_public = _ssh_key_pair()
    host_key, host_public = _ssh_key_pair()
    return {
        "POSTGRES_PASSWORD": secrets.token_hex(16),
        "AIRFLOW_DB_PASSWORD": secrets.token_hex(16),
        "DATASETS_DB_PASSWORD": secrets.token_hex(16),
        "REDIS_PASSWORD": secrets.token_hex(16),
        "ADMIN_PASSWORD": secrets.token_urlsafe(12),
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "API_SECRET_KEY": secrets.token_hex(32),
        "JWT_SECRET": secrets.token_hex(64),
        "MUNGE_KEY": base64.b64encode(secrets.token_bytes(MUNGE_KEY_BYTES)).decode(),
        "SSH_USER_KEY": user_key,
        "SSH_USER_PUBLIC_KEY": user_public,
        "SSH_HOST_KEY": host_key,
        "SSH_HOST_PUBLIC_KEY": host_public,
    }


def write_env(path: Path) -> None:
    """
    Write new secrets to a file that only its owner can read.

    :raises FileExistsError: where there is one: other secrets would not fit the databases that were made with it.
    """
    text = "".join(f"{name}={value}\n" for name, value in make_secrets().items())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _ssh_key_pair() -> tuple[str, str]:
    """Return a private key, its file in base64, and the public key as known_hosts has it, without its type."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder, "key")
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fractal", "-f", str(key)]
        subprocess.run(command, check=True)
        private = base64.b64encode(key.read_bytes()).decode()
        return private, key.with_suffix(".pub").read_text().split()[1]


def main() -> int:
    parser = argparse.ArgumentParser(description="Make every password and key of the deployment anew.")
    parser.add_argument("file", type=Path, nargs="?", default=Path(__file__).with_name(".env"))
    path = parser.parse_args().file
    try:
        write_env(path)
    except FileExistsError:
        print(
            f"{path} is there already and stays as it is: the databases know its passwords. To start from "
            "nothing, remove the volumes (docker compose down --volumes) and the file first.",
            file=sys.stderr,
        )
        return 1
    except FileNotFoundError as error:
        print(f"{error}: is ssh-keygen installed, and does the folder exist?", file=sys.stderr)
        return 1
    print(f"{path} is written; the password of the user admin is ADMIN_PASSWORD in it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
