"""Running batches of units: how they are cut, where they run, and what came of them."""
