"""The rules of Fractal, independent of Airflow: what images, outputs, packages and workflows mean."""

from fractal_airflow.fractal.arguments import RESERVED
from fractal_airflow.fractal.dataset_file import DatasetFile, dump_dataset, parse_dataset
from fractal_airflow.fractal.filters import (
    filter_images,
    parse_attribute_filters,
    parse_type_filters,
    select_images,
    step_type_filters,
)
from fractal_airflow.fractal.images import Image, dump_image, parse_images
from fractal_airflow.fractal.manifest import Manifest, TaskManifest, load_manifest
from fractal_airflow.fractal.merging import (
    UnitResult,
    apply_output,
    edited_in_place,
    input_statuses,
    merge_outputs,
    merge_step,
)
from fractal_airflow.fractal.package import TaskPackage
from fractal_airflow.fractal.resolve import (
    ResolvedTask,
    check_step_arguments,
    check_workflow,
    resolve_workflow,
)
from fractal_airflow.fractal.task_output import (
    ImageUpdate,
    ParallelizationItem,
    TaskOutput,
    parse_init_output,
    parse_task_output,
)
from fractal_airflow.fractal.workflow import (
    Workflow,
    dump_workflow,
    load_workflow,
    workflow_of_task,
    workflow_slice,
)

__all__ = [
    "RESERVED",
    "DatasetFile",
    "Image",
    "ImageUpdate",
    "Manifest",
    "ParallelizationItem",
    "ResolvedTask",
    "TaskManifest",
    "TaskOutput",
    "TaskPackage",
    "UnitResult",
    "Workflow",
    "apply_output",
    "check_step_arguments",
    "check_workflow",
    "dump_dataset",
    "dump_image",
    "dump_workflow",
    "edited_in_place",
    "filter_images",
    "input_statuses",
    "load_manifest",
    "load_workflow",
    "merge_outputs",
    "merge_step",
    "parse_attribute_filters",
    "parse_dataset",
    "parse_images",
    "parse_init_output",
    "parse_task_output",
    "parse_type_filters",
    "resolve_workflow",
    "select_images",
    "step_type_filters",
    "workflow_of_task",
    "workflow_slice",
]
