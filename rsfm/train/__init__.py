"""One training for every method: schedules, monitors, checkpoints, the run-folder log (needs torch)."""
