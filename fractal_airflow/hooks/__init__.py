"""From Airflow's connections and configuration to what this package works with.

Operators import these hooks while a DAG file is parsed: what a hook works with is imported when it is used.
"""
