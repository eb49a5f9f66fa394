"""What the benchmarks of a cluster share: the tests' SLURM with an Airflow beside it, and a simulated SLURM."""
