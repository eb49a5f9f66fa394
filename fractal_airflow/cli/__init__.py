"""The commands ``airflow fractal …``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand


def get_commands() -> list[CLICommand]:
    """Return the provider's commands, for Airflow's command line."""
    # Imported here, so that a run's own process (see `follow`) starts without Airflow.
    from fractal_airflow.cli.commands import FRACTAL

    return [FRACTAL]
