from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from environments import make_environments
from layout import Layout
from nuclei_image import fetch_image

from tests.demo import PROJECT


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "demo: runs the whole demo under a real Airflow (some minutes)")


@pytest.fixture(scope="session")
def shared() -> Layout:
    """The demo's own folder, whose environments and image the tests use; they are made where missing."""
    layout = Layout.from_environment()
    make_environments(layout.environments)
    fetch_image(layout.image)
    return layout


@pytest.fixture(scope="session")
def raw_plate(shared: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw plate."""
    folder = tmp_path_factory.mktemp("demo") / "raw_plate"
    python = shared.environments / "uzh" / "bin" / "python"
    script = PROJECT / "demo" / "raw_plate.py"
    subprocess.run([python, script, shared.image / "nuclei.tif", folder], check=True)
    return folder
