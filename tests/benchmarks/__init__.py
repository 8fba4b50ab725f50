"""The benchmarks: `make bench`, or `python -m tests.benchmarks --help`. Never part of the tests."""
