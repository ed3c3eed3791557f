"""Writing that a crash, a full disk or a vanished folder cannot spoil."""

import contextlib
import os


def write_atomically(path, content):
    """Write a file so that at any instant either the old or the whole new content is there.

    Args:
        path: pathlib.Path.
        content: bytes.

    Raises:
        OSError: it could not be written; the old content is there.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with told(path):
            with open(temporary, "wb", buffering=0) as file:
                write_durably(file.fileno(), content)
            os.replace(temporary, path)
            _sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # on a full disk it takes the room that is missing
        raise


def write_durably(descriptor, content):
    """Write all of some bytes to an open file, and return when they are on disk."""
    content = memoryview(content)
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)


@contextlib.contextmanager
def told(path):
    """Say what could not be written, and what to do, when the system only says why."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"Expected to write {path}, received: {error.strerror or error}. What was written before is whole: make "
            "room or restore the folder, and run again to go on from there.",
        ) from error


def _sync_folder(path):
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
