"""Readers: from files as a dataset's authors published them to samples."""
