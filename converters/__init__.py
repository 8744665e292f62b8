"""From one format to another, each with the checks that prove both equal. Part of the source tree only."""
