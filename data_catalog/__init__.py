"""What is known of datasets: one entry per dataset, readers, downloads, and turning them into packs."""

from data_catalog.entry import DatasetEntry, entries, entry

__all__ = ["DatasetEntry", "entries", "entry"]
