"""What a run leaves beside its images: what it did as plain values, its workflow as it ran, and an RO-Crate.

Without Airflow; what makes the RO-Crate is imported when one is made.
"""
