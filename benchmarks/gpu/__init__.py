"""One command that measures everything on a GPU, in minutes that are given: `python -m benchmarks.gpu --help`."""
