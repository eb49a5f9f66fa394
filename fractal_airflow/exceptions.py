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


class DatasetConflictError(DatasetError):
    """Another run changed, in the meantime, images that a step worked on. Selecting anew helps."""


class ImageListError(DatasetError, ValueError):
    """Images, or what tasks returned about them, break the rules of an image list."""


class EmptyImageListError(DatasetError, ValueError):
    """No image passes the filters of a step."""


class TaskExecutionError(FractalAirflowError, RuntimeError):
    """A task's command ended with an error of its own: a non-zero exit code."""


class JobExecutionError(FractalAirflowError, RuntimeError):
    """A unit was killed, timed out, could not be started, or its runner was lost."""


class OutOfMemoryError(JobExecutionError):
    """A unit, or its whole job, was killed for using more memory than it had asked for."""


class TimeLimitError(JobExecutionError):
    """A job ran past its time limit."""


class NodeFailureError(JobExecutionError):
    """The machine that a job ran on failed."""


class PreemptedError(JobExecutionError):
    """A job had to make room for another of higher priority."""


class JobCancelledError(JobExecutionError):
    """Somebody cancelled a job on the cluster."""


class SubmissionError(JobExecutionError):
    """The cluster refused a job, in a way that trying again does not change."""


class TaskOutputValidationError(FractalAirflowError, ValueError):
    """A task's command ended well, but what it wrote is not a valid output."""


class ResourceError(FractalAirflowError, ValueError):
    """A resource's configuration is wrong."""


class WorkFolderError(ResourceError):
    """A resource's work folder cannot be written, or is in use. Another try may find it mended."""


class ClusterNotReadyError(FractalAirflowError, ConnectionError):
    """
    A cluster cannot be used right now. It passes: nothing is lost by waiting, and nothing is known of any job.

    :param pause_s: how long to wait at least before the next try.
    """

    def __init__(self, message: str, *, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class ClusterUnreachableError(ClusterNotReadyError):
    """No connection to a cluster, or one that broke or took too long; what it was asked may have been done."""


class ControllerError(ClusterNotReadyError):
    """The machine of a cluster answers, but SLURM's controller does not."""


class ClusterBusyError(ClusterNotReadyError):
    """SLURM takes no more jobs for now: its queue is full, or a limit of submitted jobs is reached."""
