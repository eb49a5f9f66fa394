"""Waiting for a cluster's jobs without a worker slot, in Airflow's triggerer."""
