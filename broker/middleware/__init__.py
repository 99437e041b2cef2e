"""Dramatiq middleware, one file each. Retries is not among them: what happens to a failed message is ours to decide."""
