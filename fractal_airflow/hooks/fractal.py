"""The Airflow connection type ``fractal``: from a connection to a resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from fractal_airflow.exceptions import ResourceError

if TYPE_CHECKING:
    from fractal_airflow.execution.resource import Resource

LOCAL = "local"


class FractalHook(BaseHook):
    """
    Gives the resource on which the units of a step run.

    :param fractal_conn_id: an Airflow connection of type ``fractal``. The name ``local`` needs no connection:
        without one it is this machine, with as many units at once as it has cores.
    """

    conn_name_attr = "fractal_conn_id"
    default_conn_name = LOCAL
    conn_type = "fractal"
    hook_name = "Fractal resource"

    def __init__(self, fractal_conn_id: str = LOCAL) -> None:
        super().__init__()
        self.fractal_conn_id = fractal_conn_id

    def get_conn(self) -> Resource:
        """
        Return the resource.

        :raises ResourceError: where there is no such connection, or its fields do not make a resource.
        """
        from fractal_airflow.execution.resource import make_resource

        try:
            return make_resource(self.get_configuration())
        except ResourceError as error:
            raise ResourceError(f"Resource {self.fractal_conn_id!r}: {error}") from error

    def get_configuration(self) -> dict[str, Any]:
        """Return the resource's configuration: the connection's fields; on this machine, with a work folder."""
        extra = self._connection_extra()
        if extra.get("type", LOCAL) == LOCAL and not {"work_dir", "jobs_remote_dir"} & extra.keys():
            extra["work_dir"] = conf.get("fractal_airflow", "work_dir")
        return extra

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the connection makes a usable resource, for the button in the UI."""
        try:
            resource = self.get_conn()
        except ResourceError as error:
            return False, str(error)
        return (
            True,
            f"A {resource.type} resource, {resource.slots} batches at once, runs in {resource.work_dir}",
        )

    def _connection_extra(self) -> dict[str, Any]:
        try:
            connection = self.get_connection(self.fractal_conn_id)
        except AirflowNotFoundException:
            if self.fractal_conn_id == LOCAL:
                return {"type": LOCAL}
            raise ResourceError(
                f"There is no Airflow connection {self.fractal_conn_id!r}: "
                "add one of type 'fractal', or use the resource 'local'"
            ) from None
        if connection.conn_type != self.conn_type:
            raise ResourceError(
                f"The Airflow connection {self.fractal_conn_id!r} is of type {connection.conn_type!r}, "
                "not 'fractal'"
            )
        return {key: value for key, value in connection.extra_dejson.items() if value not in (None, "")}
