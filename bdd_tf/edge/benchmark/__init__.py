"""The part of `bdd benchmark` that runs on the device: worker processes that measure inference times."""
