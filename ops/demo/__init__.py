"""The demo: one month of a believable firm, generated from a fixed seed, with known faults planted in it."""
