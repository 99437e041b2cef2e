"""Wall clocks that jump, for processes started with one: a library preloaded into them (clock.c)."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


def why_not() -> str | None:
    """Why clocks can't be made to jump here; None when they can."""
    if sys.platform != "linux":
        return "needs LD_PRELOAD, so Linux"
    return None if shutil.which("cc") else "needs a C compiler (cc)"


def build(folder: Path) -> Path:
    """Compile the library, which stays for as long as the folder does."""
    library = folder / "clock.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"], check=True, stdin=subprocess.DEVNULL
    )
    return library


class Clock:
    """One process's clock: so many seconds ahead of the others (behind, when negative)."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(file)}

    def jump(self, offset_s: int) -> None:
        with self._file.open("r+b") as file:  # in place: the process has mapped this very file
            file.write(struct.pack("q", offset_s))
