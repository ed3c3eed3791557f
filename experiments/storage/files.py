"""Writing that a crash, a full disk, a vanished folder or a power loss cannot spoil.

All that experiments write, make, rename and remove goes through this file, so that a test can stand in for the disk.
After a power loss a file holds what it held at its last `fsync`, and perhaps some of what was written since; a folder
has the entries that it had at its own, and perhaps some that were made, renamed or removed since.
"""

import contextlib
import gzip
import hashlib
import json
import os
import zlib

_PAGE = 4096


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
            with opened(temporary, "wb") as file:
                write_durably(file.fileno(), content)
            move(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            remove(temporary)  # on a full disk it takes the room that is missing
        raise


def read(path):
    """Return the bytes of a file, none if there is no such file.

    Raises:
        OSError: there is something, and it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        message = f"Expected a file that can be read at {path}, received: {error.strerror or error}. Move it away."
        raise OSError(error.errno, message) from error


def unpacked(path):
    """Return what a packed file (`.gz`) holds, no bytes if there is no such file.

    Raises:
        ValueError: it is damaged, or something else.
        OSError: it cannot be read.
    """
    content = read(path)
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"Expected a file that gzip packed in {path}, received a damaged one or something else: {error}. Restore "
            "it, or move it away."
        ) from error


def plain(content):
    """Return bytes of a text with our line ends, for those of Windows and of old Macs, and without zeros at its end.

    Zeros are what a file system leaves where a power loss kept it from writing.
    """
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\0")


def checksum(about):
    """Return the checksum of a settings file: of all that it says but this, whatever the order and the spacing.

    Args:
        about: dict, as JSON knows it.
    """
    said = {name: value for name, value in about.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def write_durably(descriptor, content):
    """Write all of some bytes to an open file, and return when they are on disk."""
    content = memoryview(content)
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)


def append_durably(descriptor, content):
    """Add bytes to the end of an open file, so that a power loss can leave out an end of them and nothing else.

    A system writes pages in any order: of two that are not on disk yet the first may be lost and the second not, and
    zeros stand in the place of the first. So each page is on disk before the next is begun.
    """
    content, end = memoryview(content), os.fstat(descriptor).st_size
    while content:
        part = content[: _PAGE - end % _PAGE]
        write_durably(descriptor, part)
        content, end = content[len(part) :], end + len(part)


def cut(descriptor, size):
    """Cut an open file off after some bytes."""
    os.ftruncate(descriptor, size)


def opened(path, mode):
    """Open a file, unbuffered, for `write_durably`: "wb" anew, "ab" to add to its end."""
    return open(path, mode, buffering=0, opener=lambda name, flags: os.open(name, flags, 0o666))


def move(path, new):
    """Give a file another name in its folder, durably; a file that has it already is gone."""
    os.replace(path, new)
    _sync_folder(new.parent)


def remove(path):
    """Remove a file, if it is there. A power loss may bring it back: nothing may be wrong about that."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def make_folder(path):
    """Make a folder, and those that it is to be in, durably: what is written into it is lost with its name."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    _sync_folder(path.parent)


def remove_if_empty(path):
    """Remove a folder, if it is there and nothing is in it."""
    if path.is_dir() and not any(path.iterdir()):
        os.rmdir(path)


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
