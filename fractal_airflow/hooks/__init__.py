"""From Airflow's connections and configuration to what this package works with."""
