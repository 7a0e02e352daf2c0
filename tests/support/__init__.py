"""What tests and benchmarks share. Benchmarks import this, tests import nothing of `bench`."""
