"""The clock of one host, by a library that is loaded into its programs.

Namespaces of time leave the time of day alone.
"""

import struct
import subprocess
from pathlib import Path


class Clock:
    """A clock that can be set; `environment` is that of programs which follow it."""

    def __init__(self, folder):
        self.file, library = Path(folder) / "ahead", Path(folder) / "clock.so"
        self.set(0)
        source = Path(__file__).with_name("clock.c")
        build = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(build, check=True)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(self.file)}

    def set(self, seconds):
        """Put the clock so many seconds ahead."""
        with open(self.file, "r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
