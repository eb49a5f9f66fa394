"""A small web app inside Airflow's API server: logs of units, and the way to a dataset's asset page."""
