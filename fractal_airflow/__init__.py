"""Run Fractal workflows (bioimage analysis of OME-Zarr images) with Apache Airflow."""

from __future__ import annotations

__version__ = "0.1.0"
