"""Nuclei are segmented and measured on the cluster; `install-task-package` makes the environment (see README.md)."""

from fractal_airflow import FractalDag, TaskPackage

FractalDag(
    dag_id="nuclei",
    workflow="nuclei.json",
    packages=TaskPackage.from_environment(
        "/shared/environments/fractal-tasks-core-2.1.0", "fractal-tasks-core"
    ),
    dataset="plate",
    zarr_dir="/shared/data/plate",
    resource="hpc",
    schedule=None,
)
