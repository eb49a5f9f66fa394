"""The tasks of a step: select images, run units, merge their outputs."""
