"""Which patches are hidden: pure functions of a generator (needs torch)."""
