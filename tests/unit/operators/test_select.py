from __future__ import annotations

from dataclasses import replace

from fractal_airflow.operators.batches import cut_batches
from fractal_airflow.operators.inputs import fingerprint
from fractal_airflow.operators.xcoms import Unit
from tests.unit.workflows import step

UNITS = [Unit(zarr_url=f"/data/p.zarr/B/{column:02d}/0") for column in range(1, 6)]


class TestBatches:
    def test_units_are_cut_in_order_and_labelled(self) -> None:
        batches = cut_batches(UNITS, [3, 2], zarr_dir="/data")

        assert [(batch["index"], batch["label"]) for batch in batches] == [
            (0, "B/01/0 … B/03/0 (3)"),
            (1, "B/04/0 … B/05/0 (2)"),
        ]
        assert [unit for batch in batches for unit in batch["units"]] == UNITS

    def test_no_units_make_no_batches(self) -> None:
        assert cut_batches([], [], zarr_dir="/data") == []


class TestFingerprint:
    def test_it_stays_the_same_while_package_and_arguments_do(self) -> None:
        arguments = {"parallel": {"a": 1, "b": [1.5, None]}, "non_parallel": {}}
        again = {"non_parallel": {}, "parallel": {"b": [1.5, None], "a": 1}}

        assert fingerprint(step("Measure"), arguments) == fingerprint(step("Measure"), again)

    def test_it_changes_with_version_task_or_arguments(self) -> None:
        measure = step("Measure")
        newer = replace(measure, package=replace(measure.package, version="1.0.1"))
        all_of_them = [
            fingerprint(measure, {"parallel": {}}),
            fingerprint(newer, {"parallel": {}}),
            fingerprint(step("Summarise"), {"parallel": {}}),
            fingerprint(measure, {"parallel": {"threshold": 1}}),
            fingerprint(measure, {"parallel": {"threshold": True}}),
        ]

        assert len(set(all_of_them)) == len(all_of_them)
