from __future__ import annotations

import configparser
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from airflow_home import HOST, AirflowHome, free_port


def config(home: AirflowHome) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(home.config_file)
    return parser


def test_taken_port_is_no_problem() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        taken = other.getsockname()[1]

        assert free_port(preferred=taken) not in (taken, 0)


def test_free_port_is_taken_as_it_is() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        port = other.getsockname()[1]

    assert free_port(preferred=port) == port


def test_secrets_outlive_a_new_configuration(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path)
    home.write_config(tmp_path / "dags", 8080)
    before = config(home)["core"]["fernet_key"]

    home.write_config(tmp_path / "dags", 8081)

    assert config(home)["core"]["fernet_key"] == before
    assert config(home)["api"]["port"] == "8081"


def test_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path)
    home.write_config(tmp_path / "dags", 8080)

    assert home.config_file.stat().st_mode & 0o077 == 0


def test_settings_of_another_airflow_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")

    environment = AirflowHome(tmp_path).environment()

    assert "AIRFLOW__CORE__EXECUTOR" not in environment
    assert environment["AIRFLOW_HOME"] == str(tmp_path)


def test_airflow_reads_paths_with_odd_characters(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path / "50 % of \u00fc")
    home.write_config(home.folder / "dags", 8080)

    read = subprocess.run(
        [sys.executable, "-m", "airflow", "config", "get-value", "fractal_airflow", "dataset_file"],
        env=home.environment(),
        cwd=tmp_path,  # Airflow makes nothing of a home with a % in its name, and puts a log folder here
        check=True,
        capture_output=True,
        text=True,
    )

    assert read.stdout.strip().endswith(str(home.dataset_store))
