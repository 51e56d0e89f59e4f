"""From packs to batches on the device: sources, the endless sampler, batched views (needs torch)."""
