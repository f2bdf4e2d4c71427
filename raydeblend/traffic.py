"""How many bytes of pixels this process has read: counted where they are, asked for by the cell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class PixelCounter:
    """Counts bytes of pixels as they are once unpacked, whole rows where whole rows are read."""

    n_bytes: int = 0

    def add(self, n_bytes: int) -> None:
        """Count some."""
        self.n_bytes += n_bytes


PIXELS_READ = PixelCounter()
"""Of this process, which does one stage of one cell at a time."""
