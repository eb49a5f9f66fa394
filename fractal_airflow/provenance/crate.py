"""A run as an RO-Crate: the profile Provenance Run Crate, which holds Workflow Run Crate and Process Run Crate.

Images are no entities of it, since a run may have a million: each step has files that list them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fractal_airflow.provenance.crate_entities import (
    add_entity,
    add_file,
    add_software,
    how_it_went,
    iso_time,
)
from fractal_airflow.provenance.crate_values import Parameters, entity_id
from fractal_airflow.provenance.facts import RunFacts, StepFacts
from fractal_airflow.provenance.markdown import error_line

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

METADATA_FILE = "ro-crate-metadata.json"
WORKFLOW_FILE = "workflow.json"
REPORT_FILE = "report.md"

_WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    _WORKFLOW_CRATE: "Workflow RO-Crate",
}
_WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_NO_LICENSE = {"name": "No license stated", "description": "Ask the owners of the data before you use it"}


def input_file(step: StepFacts) -> str:
    """Return the name of the file that lists the images that a step was given."""
    return f"step_{step.index}_input.csv"


def output_file(step: StepFacts) -> str:
    """Return the name of the file that lists the images that a step wrote."""
    return f"step_{step.index}_output.csv"


def run_identifier(dag_id: str, run_id: str, task_id: str) -> str:
    """Return what a crate says whose it is: the same for a report that is made anew, and for no other."""
    return json.dumps([dag_id, run_id, task_id], ensure_ascii=False)


def identifier_of(metadata: bytes) -> str | None:
    """Return whose a crate is, from its metadata file; None where that is no crate of ours."""
    try:
        root = next(each for each in json.loads(metadata)["@graph"] if each["@id"] == "./")
    except (ValueError, LookupError, TypeError, StopIteration):
        return None
    identifier = root.get("identifier")
    return identifier if isinstance(identifier, str) else None


def crate_metadata(run: RunFacts, *, workflow_version: str) -> bytes:
    """
    Return the crate's metadata file.

    :param workflow_version: what tells the workflow as it ran from other versions of it.
    """
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    _describe_root(crate, run)
    workflow = _add_workflow(crate, run, workflow_version)
    agent = _add_agent(crate, run)
    parameters = Parameters(crate)
    steps = [_add_step(crate, step, workflow, parameters, agent) for step in run.steps_that_ran]
    _add_run(crate, run, workflow, parameters, agent, steps)
    metadata = crate.metadata.generate()
    metadata["@graph"] = [_without_lists_of_one(entity) for entity in metadata["@graph"]]
    return json.dumps(metadata, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _without_lists_of_one(entity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entity as RO-Crate wants it: a property of one value has no list around it."""
    return {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value
        for name, value in entity.items()
        if value != []
    }


def _describe_root(crate: ROCrate, run: RunFacts) -> None:
    root = crate.root_dataset
    crate.name = f"{run.workflow_name}: run {run.run_id}"
    crate.description = (
        f"Run {run.run_id} of the Fractal workflow {run.workflow_name!r} (DAG {run.dag_id}) on the dataset "
        f"{run.dataset!r}, whose images are below {run.zarr_dir}."
    )
    root["identifier"] = run_identifier(run.dag_id, run.run_id, run.task_id)
    root["license"] = add_entity(crate, "#license", "CreativeWork", _NO_LICENSE)
    if run.reported_at:
        root["datePublished"] = iso_time(run.reported_at)
    profiles = [
        add_entity(crate, url, "CreativeWork", {"name": name, "version": _version_of(url)})
        for url, name in _PROFILES.items()
    ]
    root["conformsTo"] = profiles
    crate.metadata["conformsTo"] = [{"@id": "https://w3id.org/ro/crate/1.1"}, {"@id": _WORKFLOW_CRATE}]
    add_file(crate, REPORT_FILE, "text/markdown", name="What became of the run", about=root)


def _add_workflow(crate: ROCrate, run: RunFacts, version: str) -> Entity:
    language = add_entity(
        crate,
        "#fractal-workflow",
        "ComputerLanguage",
        {"name": "Fractal workflow", "alternateName": "Fractal"},
    )
    workflow = add_file(
        crate,
        WORKFLOW_FILE,
        "application/json",
        types=("File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"),
        name=run.workflow_name,
        description=run.workflow_description or "A Fractal workflow, as it ran.",
        version=version,
        programmingLanguage=language,
        conformsTo={"@id": _WORKFLOW_PROFILE},
    )
    crate.mainEntity = workflow
    return workflow


def _add_agent(crate: ROCrate, run: RunFacts) -> Entity | None:
    if run.agent is None:
        return None
    return add_entity(crate, entity_id("agent", run.agent), "Person", {"name": run.agent})


def _add_step(
    crate: ROCrate, step: StepFacts, workflow: Entity, parameters: Parameters, agent: Entity | None
) -> tuple[Entity, list[Entity], list[Entity]]:
    """Add a step, its tool and its actions; return the ControlAction, and what came in and out."""
    tool = _add_tool(crate, step, workflow)
    how_to = add_entity(
        crate,
        f"{WORKFLOW_FILE}#{step.index}",
        "HowToStep",
        {"name": step.name, "position": str(step.index), "workExample": tool},
    )
    workflow.append_to("step", how_to)
    inputs = [] if step.is_converter else [_images_file(crate, input_file(step), "given to", step)]
    outputs = [_images_file(crate, output_file(step), "written by", step)]
    values = [
        parameters.add(tool, (step.task_name, half), (f"step {step.index}", half), name, value)
        for half, arguments in (step.arguments or {}).items()
        for name, value in arguments.items()
    ]
    went = how_it_went(step.end != "failed", step.error or _failures(step), step.started_at, step.ended_at)
    action = add_entity(
        crate,
        f"#run-of-step-{step.index}",
        "CreateAction",
        {
            "name": f"Run of step {step.index}: {step.name}",
            "description": _counts(step),
            "instrument": tool,
            "object": [*inputs, *values],
            "result": outputs,
            **({"agent": agent} if agent else {}),
            **went,
        },
    )
    crate.root_dataset.append_to("mentions", action)
    control = add_entity(
        crate,
        f"#control-of-step-{step.index}",
        "ControlAction",
        {"name": f"Step {step.index}: {step.name}", "instrument": how_to, "object": action, **went},
    )
    return control, inputs, outputs


def _add_tool(crate: ROCrate, step: StepFacts, workflow: Entity) -> Entity:
    identifier = entity_id("task", step.package, step.version or "", step.task_name)
    known = crate.dereference(identifier)
    if known is not None:
        return known
    package = add_software(crate, step.package, step.version)
    tool = add_entity(
        crate,
        identifier,
        "SoftwareApplication",
        {
            "name": step.task_name,
            "description": f"The Fractal task {step.task_name!r} of {step.package}, of type {step.type}",
            "softwareVersion": step.version or "unknown",
            "isPartOf": package,
        },
    )
    workflow.append_to("hasPart", tool)
    return tool


def _add_run(
    crate: ROCrate,
    run: RunFacts,
    workflow: Entity,
    parameters: Parameters,
    agent: Entity | None,
    steps: list[tuple[Entity, list[Entity], list[Entity]]],
) -> None:
    first_inputs, last_outputs = (steps[0][1], steps[-1][2]) if steps else ([], [])
    chosen = {"dataset": run.dataset, "zarr_dir": run.zarr_dir, **run.parameters}
    values = [
        parameters.add(workflow, ("workflow",), ("run",), name, value) for name, value in chosen.items()
    ]
    failed = run.failed_steps
    error = "; ".join(f"step {step.index}, {step.name}: {step.error or _failures(step)}" for step in failed)
    went = how_it_went(not failed, error, run.started_at, run.ended_at)
    action = add_entity(
        crate,
        "#run",
        "CreateAction",
        {
            "name": f"Run {run.run_id} of {run.workflow_name}",
            "description": f"On the dataset {run.dataset!r}{_versions(run)}, with Apache Airflow",
            "instrument": workflow,
            "object": [*values, *first_inputs],
            "result": last_outputs,
            **({"agent": agent} if agent else {}),
            **({"url": run.link} if run.link else {}),
            **went,
        },
    )
    crate.root_dataset.append_to("mentions", action)
    engine, *others = [add_software(crate, name, version) for name, version in run.software.items()]
    engine["softwareRequirements"] = others
    add_entity(
        crate,
        "#engine-run",
        "OrganizeAction",
        {
            "name": f"Run {run.run_id} of DAG {run.dag_id}",
            "instrument": engine,
            "object": [control for control, _, _ in steps],
            "result": action,
            **({"agent": agent} if agent else {}),
            **went,
        },
    )
    crate.root_dataset.append_to("mentions", crate.dereference("#engine-run"))


def _images_file(crate: ROCrate, name: str, how: str, step: StepFacts) -> Entity:
    return add_file(crate, name, "text/csv", name=f"Images {how} step {step.index}: {step.name}")


def _failures(step: StepFacts) -> str | None:
    if not step.failed:
        return None
    first = error_line(step.failed[0].error)
    if step.is_converter:
        return first
    return f"{step.failed_count} of {step.image_count} images failed. First error: {first}"


def _counts(step: StepFacts) -> str:
    given = [] if step.is_converter else [f"{count} {status}" for status, count in step.counts.items()]
    written = [f"{count} {kind}" for kind, count in step.written.items() if count]
    return f"Images: {', '.join([*given, *written]) or 'none'}"


def _versions(run: RunFacts) -> str:
    before, after = run.versions
    return f", from version {before} to {after}" if before is not None and after is not None else ""


def _version_of(url: str) -> str:
    return url.rpartition("/")[2]
