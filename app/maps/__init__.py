"""Maps: composed with leafmap, rendered by our own page. The only place that imports leafmap."""
