"""Parts of pages that draw: what a page is too long to hold itself."""
