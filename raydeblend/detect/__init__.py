"""From a tile to blends: background, detection image, footprints, peaks and stamps."""
