"""Units as jobs of a SLURM cluster."""
