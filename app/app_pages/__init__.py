"""One script per page. Scripts draw when they run: they are never imported."""
