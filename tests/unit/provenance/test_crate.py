"""The RO-Crate of a run, by its profile's own rules, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.provenance import crate
from fractal_airflow.provenance.facts import RunFacts
from fractal_airflow.provenance.workflow_file import workflow_as_run
from tests.services.crate_validator import crate_issues
from tests.unit.provenance.runs import a_run, a_step, of_every_kind


def write(folder: Path, run: RunFacts) -> dict[str, dict[str, Any]]:
    """Write a crate with all its files; return its entities."""
    folder.mkdir()
    (folder / crate.WORKFLOW_FILE).write_text(json.dumps(workflow_as_run(run)), encoding="utf-8")
    (folder / crate.REPORT_FILE).touch()
    for step in run.steps_that_ran:
        (folder / crate.output_file(step)).touch()
        if not step.is_converter:
            (folder / crate.input_file(step)).touch()
    metadata = crate.crate_metadata(run, workflow_version="0123")
    (folder / crate.METADATA_FILE).write_bytes(metadata)
    return {entity["@id"]: entity for entity in json.loads(metadata)["@graph"]}


def test_a_run_of_every_kind_is_a_valid_provenance_run_crate(tmp_path: Path) -> None:
    entities = write(tmp_path / "crate", of_every_kind())

    assert crate_issues(tmp_path / "crate") == []
    run = entities["#run"]
    assert run["instrument"] == {"@id": "workflow.json"}
    assert run["agent"] == {"@id": "#agent/ada"}
    assert (run["startTime"], run["endTime"]) == (
        "2026-11-21T12:00:00.000+00:00",
        "2026-11-21T13:01:00.000+00:00",
    )
    assert run["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert run["error"].startswith("step 1, Segment <all>: 1 of 3 images failed. First error: ")
    segment = entities["#run-of-step-1"]
    assert segment["instrument"] == {"@id": "#task/fake-tasks/1.0/Segment%20%3Call%3E"}
    assert segment["object"] == [{"@id": "step_1_input.csv"}, {"@id": "#value/step%201/parallel/channel"}]
    assert segment["result"] == {"@id": "step_1_output.csv"}
    assert entities["#value/step%201/parallel/channel"]["value"] == "DAPI"
    assert entities["#control-of-step-1"]["instrument"] == {"@id": "workflow.json#1"}
    assert entities["#engine-run"]["instrument"] == {"@id": "#software/fractal-airflow/0.3.0"}
    assert [step["@id"] for step in entities["workflow.json"]["step"]] == [
        f"workflow.json#{index}" for index in (0, 1, 2, 6)
    ]


def test_values_of_all_kinds_are_in_it(tmp_path: Path) -> None:
    values = {"flag": True, "count": 2, "size": 0.5, "name": "ü", "none": None, "list": [1, {"a": "b"}]}
    same = {"name": "the same task again"}
    steps = [
        a_step(0, "First", task_name="Segment", arguments={"parallel": values}),
        a_step(1, "Second", task_name="Segment", arguments={"parallel": same}),
    ]

    entities = write(tmp_path / "crate", a_run(*steps))

    found = {name: entities[f"#value/step%200/parallel/{name}"]["value"] for name in values}
    assert found == {**values, "none": "null", "list": '[1, {"a": "b"}]'}
    parameters = [entity for entity in entities.values() if entity["@type"] == "FormalParameter"]
    kinds = {each["name"]: each["additionalType"] for each in parameters}
    assert (kinds["flag"], kinds["count"], kinds["size"], kinds["list"]) == (
        "Boolean",
        "Integer",
        "Float",
        "Text",
    )
    assert sum(each["name"] == "name" for each in parameters) == 1
    assert crate_issues(tmp_path / "crate") == []


def test_a_crate_says_whose_it_is(tmp_path: Path) -> None:
    write(tmp_path / "crate", of_every_kind())

    metadata = (tmp_path / "crate" / crate.METADATA_FILE).read_bytes()

    assert crate.identifier_of(metadata) == crate.run_identifier("plate", "monday", "report")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"@graph": [{"@id": "./", "identifier": [1]}]}', b"\xff"]
)
def test_what_is_no_crate_of_ours_is_nobodys(content: bytes) -> None:
    assert crate.identifier_of(content) is None
