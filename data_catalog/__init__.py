"""What is known of datasets: one entry per dataset, readers, downloads, and turning them into packs."""

from data_catalog.entry import DatasetEntry, broken_entries, entries, entry

__all__ = ["DatasetEntry", "broken_entries", "entries", "entry"]
