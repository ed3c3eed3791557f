"""Where what was compiled is kept from one process to the next, on JAX: in the user's cache folder.

Starting a second run takes a fraction of the time then. What belongs to another version or device is never found, since
its key is another. JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
"""

import contextlib
import os
import time

import platformdirs

SECONDS = 0.1
"""What takes less time to compile is not kept."""
DAYS = 30
"""After so many, what is kept is compiled anew, so that what nobody asks for any more does not stay for ever."""


def folder():
    """Return the folder, made if need be and rid of what is old; None if nothing can be written there."""
    found = platformdirs.user_cache_path("weightwise", appauthor=False) / "jax"
    try:
        found.mkdir(parents=True, exist_ok=True)
        _remove_old(found)
    except OSError:
        return None
    return found if os.access(found, os.W_OK | os.X_OK) else None


def _remove_old(found):
    """Remove the files that are older than `DAYS`; another process may be doing the same."""
    oldest = time.time() - DAYS * 24 * 3600
    for path in found.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
