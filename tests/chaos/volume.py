"""A volume of its own for the database's data, which can be full: a tmpfs whose size is taken down to what is used."""

import os
import subprocess
import sys
from pathlib import Path

size_mb = 1024
fill_attempts = 100


class Volume:
    """`why_not` says why the volume can't be made here: then the data lies on the machine's own disk, never full."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.why_not = self._mount()

    def _mount(self) -> str | None:
        if sys.platform != "linux" or os.geteuid() != 0:
            return "needs root on Linux, to mount a volume"
        owner = self._folder.parent.stat()
        self._folder.mkdir()
        options = f"size={size_mb}m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tieout-chaos", str(self._folder)], capture_output=True, text=True
        )
        if done.returncode != 0:
            self._folder.rmdir()
            return f"mount: {done.stderr.strip()}"
        return None

    def fill(self) -> None:
        """From now on not one more block can be had.

        Raises:
          CalledProcessError: the volume can't be made smaller.
        """
        for attempts_left in reversed(range(fill_attempts)):
            used = os.statvfs(self._folder)
            try:
                self._resize(f"{(used.f_blocks - used.f_bfree) * used.f_frsize // 1024}k")
            except subprocess.CalledProcessError:
                # The database has written meanwhile, and a volume can't be smaller than what is on it.
                if not attempts_left:
                    raise
            else:
                return

    def free(self) -> None:
        if self.why_not is None:
            self._resize(f"{size_mb}m")

    def close(self) -> None:
        if self.why_not is None:
            subprocess.run(["umount", "-l", str(self._folder)], check=True)

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self._folder)], check=True)
