"""Where the demo's files lie."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from airflow_home import AirflowHome

PROJECT = Path(__file__).resolve().parent.parent
DAG_ID = "fractal_demo"
HOME_VARIABLE = "FRACTAL_DEMO_DIR"


@dataclass(frozen=True)
class Layout:
    """The folders of the demo."""

    home: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """Return the usual folders, or those below the folder that the variable names."""
        return cls(Path(os.environ.get(HOME_VARIABLE, PROJECT / ".demo")).resolve())

    @property
    def environments(self) -> Path:
        """The environments of the task packages."""
        return self.home / "environments"

    @property
    def image(self) -> Path:
        """The folder of the image that the plate is cut from."""
        return self.home / "image"

    @property
    def airflow(self) -> AirflowHome:
        return AirflowHome(self.home / "airflow")

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    def run(self, run_id: str) -> RunFolder:
        return RunFolder(self.runs / run_id)

    def last_run(self) -> RunFolder | None:
        """Return the folder of the newest run."""
        folders = sorted(self.runs.iterdir()) if self.runs.is_dir() else []
        return RunFolder(folders[-1]) if folders else None


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run of the demo: all that went in and came out, but for Airflow's own files."""

    folder: Path

    @property
    def run_id(self) -> str:
        """The name of the DAG run, and of the dataset."""
        return self.folder.name

    @property
    def raw_plate(self) -> Path:
        return self.folder / "raw_plate"

    @property
    def zarr_dir(self) -> Path:
        return self.folder / "zarr"

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset.json"

    @property
    def nuclei(self) -> Path:
        return self.folder / "nuclei.json"

    @property
    def picture(self) -> Path:
        return self.folder / "plate.png"


def step_names() -> list[str]:
    """Return the names of the workflow's steps."""
    workflow = json.loads((PROJECT / "demo" / "workflow.json").read_text())
    return [step["alias"] or step["task"]["name"] for step in workflow["task_list"]]
