"""Benchmarks: our broker and pipeline beside other task queues, on the same servers, in one run."""
