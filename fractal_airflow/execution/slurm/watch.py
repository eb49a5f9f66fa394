"""Watching one job: from what the polls say of it to lines for the log, and a verdict. It asks nobody itself."""

from __future__ import annotations

from typing import Literal

from fractal_airflow.exceptions import ClusterNotReadyError
from fractal_airflow.execution.progress import duration, progress_line
from fractal_airflow.execution.slurm.messages import JobStatus, Submitted
from fractal_airflow.execution.slurm.states import kind_of_end, phase_of, plain_state, waiting_words

Verdict = Literal["ended", "lost", "unknown", "unwatched"]

# A state that nobody here has heard of may be one that a newer SLURM passes through.
UNKNOWN_WAIT_S = 60.0
# What ended by force left no end file, and may have left no result: nothing says what is to be waited for.
FORCED_WAIT_S = 3.0
# What is wrong with the settings of the machine that asks does not pass, but somebody may be mending it.
WRONG_WAIT_S = 600.0
FIRST_REMINDER_S = 600.0
# Lines of progress become seldom, so that a job of days does not fill the log.
LEAST_LINE_S = 2.0
LINE_SHARE = 0.05


class JobWatch:
    """
    What is known of a job that waits or runs.

    :param count: how many units the batch has.
    :param results_wait_s: how long results are waited for that a slow file system does not show yet, and a
        job that SLURM does not know any more.
    :param done: how many units had a good result before this job.
    """

    def __init__(
        self, job_id: str, count: int, results_wait_s: float, *, done: int = 0, now: float = 0.0
    ) -> None:
        self.job_id = job_id
        self.verdict: Verdict | None = None
        self.state: str | None = None
        self._count = count
        self._results_wait_s = results_wait_s
        self._done_before = done
        self._done = self._failed = 0
        self._words = ""
        self._restarts = 0
        self._first_run_at: float | None = None
        self._shown_at = now
        self._to_show = False
        self._silent_since: float | None = None
        self._reminder_s = FIRST_REMINDER_S
        self._wrong_since: float | None = None
        self._waits_for: str | None = None
        self._waits_since = now

    @classmethod
    def of(cls, submitted: Submitted, results_wait_s: float, now: float) -> JobWatch:
        """Return the watch of a job that was just submitted or adopted."""
        if submitted.job is None:
            raise ValueError(f"{submitted.folder} has no job: all of its units are done")
        return cls(submitted.job.id, submitted.count, results_wait_s, done=submitted.done, now=now)

    def take(self, status: JobStatus, now: float) -> list[str]:
        """Take what a poll says; return the lines for the log. Then look at the verdict."""
        lines = self._answers_again(now)
        lines += self._requeued(status)
        lines += self._state_change(status)
        lines += self._progress(status, now)
        self._judge(status, now)
        if self.verdict:
            lines += self._last_words()
        return lines

    def not_ready(self, error: Exception, now: float) -> list[str]:
        """Take note that there was no answer; return the lines for the log: ever fewer, as long as that lasts.

        It says nothing of the job, and does not count as time that was waited for it. Where it is not the
        cluster that is at fault but the way in which it is asked, somebody else has to watch after a while.
        """
        self._judge_asking(error, now)
        if self._silent_since is None:
            self._silent_since, self._reminder_s = now, FIRST_REMINDER_S
            return [f"No answer from the cluster; job {self.job_id} is left as it is. {error}"]
        silent_s = now - self._silent_since
        if silent_s < self._reminder_s and self.verdict is None:
            return []
        self._reminder_s = 2 * silent_s
        return [f"Still no answer from the cluster, for {duration(silent_s)}. {error}"]

    def _judge_asking(self, error: Exception, now: float) -> None:
        if isinstance(error, ClusterNotReadyError):
            self._wrong_since = None
        elif self._wrong_since is None:
            self._wrong_since = now
        elif now - self._wrong_since >= WRONG_WAIT_S:
            self.verdict = "unwatched"

    def _answers_again(self, now: float) -> list[str]:
        if self._silent_since is None:
            return []
        silent_s = now - self._silent_since
        self._silent_since = self._wrong_since = None
        self._waits_since += silent_s
        return [f"The cluster answers again, after {duration(silent_s)}"]

    def _requeued(self, status: JobStatus) -> list[str]:
        if status.restarts <= self._restarts:
            return []
        self._restarts = status.restarts
        self._failed = 0  # these are run again
        return [f"Job {self.job_id} was requeued by SLURM; units that are done are not run again"]

    def _state_change(self, status: JobStatus) -> list[str]:
        self.state = status.state
        words = self._describe(status)
        if words == self._words:
            return []
        self._words = words
        return [f"Job {self.job_id} {words}"]

    def _describe(self, status: JobStatus) -> str:
        if status.state is None:
            return "is not known to SLURM any more"
        state = plain_state(status.state)
        phase = phase_of(state)
        where = f" on {status.nodes}" if status.nodes else ""
        if phase == "pending":
            return waiting_words(status.reason or ("" if state == "PENDING" else state))
        if phase == "running":
            return f"runs{where}" if state in ("RUNNING", "COMPLETING") else f"is {state}{where}"
        if phase == "ended":
            return f"ended{where}: {state}"
        return f"is in a state that is not known here: {status.state}"

    def _progress(self, status: JobStatus, now: float) -> list[str]:
        self._done += status.done
        self._failed += status.failed
        self._to_show = self._to_show or bool(status.done or status.failed)
        if phase_of(status.state or "") != "running":
            return []
        if self._first_run_at is None:
            self._first_run_at = self._shown_at = now
        gap = max(LEAST_LINE_S, LINE_SHARE * (now - self._first_run_at))
        if not self._to_show or now - self._shown_at < gap:
            return []
        self._shown_at = now
        return [self._progress_line(now)]

    def _progress_line(self, now: float) -> str:
        self._to_show = False
        ended = min(self._count, self._done_before + self._done + self._failed)
        ran_s = 0.0 if self._first_run_at is None else now - self._first_run_at
        return progress_line(ended, self._count, self._failed, self._done_before, ran_s)

    def _last_words(self) -> list[str]:
        return [self._progress_line(self._shown_at)] if self._to_show else []

    def _judge(self, status: JobStatus, now: float) -> None:
        """Decide whether there is something left to wait for, and how long that may take."""
        verdict, wait_s = self._prospect(status)
        if verdict is None:
            self._waits_for = None
            return
        if self._waits_for != verdict:
            self._waits_for, self._waits_since = verdict, now
        if now - self._waits_since >= wait_s:
            self.verdict = verdict

    def _prospect(self, status: JobStatus) -> tuple[Verdict | None, float]:
        """Return what the verdict will be if nothing changes, and after how long."""
        complete = self._done_before + self._done + self._failed >= self._count
        # An end file with another code says that the job ended with results missing.
        told = complete or status.exit not in (None, 0)
        if status.state is None:
            verdict: Verdict = "lost" if status.exit is None and not complete else "ended"
            return verdict, 0.0 if told else self._results_wait_s
        phase = phase_of(status.state)
        if phase is None:
            return "unknown", UNKNOWN_WAIT_S
        if phase != "ended":
            return None, 0.0
        if told:
            return "ended", 0.0
        forced = kind_of_end(status.state) is not None and not _by_itself(status)
        return "ended", min(FORCED_WAIT_S, self._results_wait_s) if forced else self._results_wait_s


def _by_itself(status: JobStatus) -> bool:
    """Whether a job's script came to its own end, so that it has left an end file."""
    return plain_state(status.state or "") == "FAILED" and status.reason in ("", "None", "NonZeroExitCode")
