"""Run folders (the truth) and the DuckDB index over them."""
