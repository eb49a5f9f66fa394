"""The errors of this package: each says what is wrong, where, and what to do."""

from __future__ import annotations


class FractalAirflowError(Exception):
    """Base of all errors that this package raises on purpose."""


class WorkflowError(FractalAirflowError, ValueError):
    """
    A workflow, a manifest, an argument or a filter is wrong.

    Raised while the DAG file is parsed, or, for what only a run knows, when the step begins.
    """


class DatasetError(FractalAirflowError):
    """A dataset cannot be used as asked: say, its name is taken, or it has another ``zarr_dir``."""


class DatasetNotFoundError(DatasetError, LookupError):
    """There is no dataset of that name, or it has no such version."""


class DatasetStoreError(DatasetError, ConnectionError):
    """The dataset store cannot be reached, read or written. Trying again may help."""


class ImageListError(DatasetError, ValueError):
    """Images, or what tasks returned about them, break the rules of an image list."""


class EmptyImageListError(DatasetError, ValueError):
    """No image passes the filters of a step."""


class TaskExecutionError(FractalAirflowError, RuntimeError):
    """A task's command ended with an error of its own: a non-zero exit code."""


class JobExecutionError(FractalAirflowError, RuntimeError):
    """A unit was killed, timed out, could not be started, or its runner was lost."""


class TaskOutputValidationError(FractalAirflowError, ValueError):
    """A task's command ended well, but what it wrote is not a valid output."""


class ResourceError(FractalAirflowError, ValueError):
    """A resource's configuration is wrong."""


class WorkFolderError(ResourceError):
    """A resource's work folder cannot be written, or is in use. Another try may find it mended."""
