"""A disk that fails when it is told to: a library that stands between a program and its system calls, built by the C compiler.

It needs no rights, unlike small file systems and FUSE. `resource.setrlimit` (commands.no_larger_files_than) needs no compiler.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(directory: Path) -> Path:
    """Build the library."""
    library = directory / "broken_disk.so"
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def broken(library: Path, *, file: str, call: str, error: int = errno.EIO, skip: int = 0) -> dict[str, str]:
    """The environment of a program for which a disk fails.

    Args:
        library: from `build`.
        file: part of the path of the files that are hit.
        call: "write", "sync" or "read".
        error: what such calls fail with.
        skip: so many of them succeed first; the rest fail.
    """
    return {"LD_PRELOAD": str(library), "BROKEN_DISK": f"{file}:{call}:{error}:{skip}"}


def hanging_names(library: Path, host: str, *, times: int, seconds: int) -> dict[str, str]:
    """The environment of a program for which `times` look-ups of a host's name hang for `seconds`; they all lead to 127.0.0.1."""
    return {"LD_PRELOAD": str(library), "HANGING_NAME": f"{host}:{times}:{seconds}"}
