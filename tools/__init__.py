"""Programs for developers: comparisons and checks that take longer than the tests.

Run from the root of the repository: `python -m tools.agreement`, or by a target of the Makefile.
"""
