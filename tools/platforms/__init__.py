"""Runs our wheels for systems that are not at hand: Windows under Wine, musl by its loader."""
