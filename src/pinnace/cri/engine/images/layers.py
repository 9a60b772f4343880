"""Unpack a layer into a directory that overlayfs can stack: whiteouts and opaque marks in overlayfs' own form.

The archive is hostile: every path is resolved inside the layer's directory by the kernel (`rooted`), the last
component is never followed, and nothing that overlayfs gives a meaning to is taken from the archive. The format is the
image-spec's layer: https://github.com/opencontainers/image-spec/blob/main/layer.md.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import overlay
from pinnace.cri.engine.images.content import ContentError
from pinnace.cri.engine.images.rooted import open_directory_in_root, open_in_root
from pinnace.cri.engine.images.sources import Source
from pinnace.cri.trees import remove

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR_RECORD = "SCHILY.xattr."
_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_PIECE = 1 << 20  # bytes copied by one read and write
_MAX_ID = (1 << 32) - 2  # the largest uid or gid; the one above means "leave as it is" to chown
_MAX_PARENT_LINKS = 8


class LayerError(ContentError):
    """A layer that cannot be unpacked."""


def _clean(name: str) -> str:
    """An entry's path relative to the root of the layer, `""` for the root; LayerError where it climbs out of it."""
    if "\0" in name:
        raise LayerError(f"invalid path in layer: {name!r}")
    path = posixpath.normpath(name.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise LayerError(f"path {name!r} in layer escapes its root")
    return "" if path == "." else path


class _Unpacker:
    """One layer being unpacked into the directory `root`; `lowers` are the layers below it, the nearest first."""

    def __init__(self, source: Source, root: int, lowers: Sequence[int]) -> None:
        self._source = source
        self._root = root
        self._lowers = lowers
        self._parent_path: str | None = None  # the directory that `_parent_descriptor` is open on
        self._parent_descriptor = -1
        self._directory_times: dict[str, float] = {}  # set last, for each new entry touches its directory
        self._whited_out: set[str] = set()

    def __enter__(self) -> _Unpacker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._forget_parent()

    # Entries.

    def unpack(self, entry: tarfile.TarInfo) -> None:
        path = _clean(entry.name)
        directory, name = posixpath.split(path)
        if not name:
            if entry.isdir():
                self._set_attributes(self._root, ".", entry)
                self._directory_times[""] = entry.mtime
            return
        parent = self._open_parent(directory)
        if name.startswith(_WHITEOUT):
            self._white_out(parent, path, name)
            return
        if not entry.isreg():
            self._forget_parent_after(path)
        self._create(parent, path, name, entry)

    def _create(self, parent: int, path: str, name: str, entry: tarfile.TarInfo) -> None:
        if entry.isdir():
            self._make_directory(parent, path, name)
            self._directory_times[path] = entry.mtime
        elif entry.islnk():
            self._make_hard_link(parent, name, entry)
            return  # the attributes are its target's
        elif entry.issym():
            self._clear(parent, name)
            os.symlink(entry.linkname, name, dir_fd=parent)
        elif entry.ischr() or entry.isblk() or entry.isfifo():
            self._clear(parent, name)
            if not entry.isfifo() and sys_.in_user_namespace():
                return  # users make no devices; containers get theirs with /dev
            kind = stat.S_IFCHR if entry.ischr() else stat.S_IFBLK if entry.isblk() else stat.S_IFIFO
            device = 0 if entry.isfifo() else os.makedev(entry.devmajor, entry.devminor)
            os.mknod(name, kind | 0o600, device, dir_fd=parent)
        elif entry.isreg():
            self._make_file(parent, name, entry)
            return
        else:
            raise LayerError(f"{entry.name!r} in layer is of unknown type {entry.type!r}")
        self._set_attributes(parent, name, entry)

    def _make_directory(self, parent: int, path: str, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                return
            self._clear(parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)
            if path in self._whited_out:  # the directory replaces the one below, it does not merge with it
                self._mark_opaque(parent, name)

    def _make_file(self, parent: int, name: str, entry: tarfile.TarInfo) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            target = os.open(name, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            target = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            self._copy_content(entry, target)
            _chown(target, entry)
            os.fchmod(target, entry.mode & 0o7777)  # after chown, which takes setuid away
            for key, value in _xattrs(entry):
                _set_xattr(target, key, value)
            os.utime(target, ns=_nanoseconds(entry.mtime))
        finally:
            os.close(target)

    def _copy_content(self, entry: tarfile.TarInfo, target: int) -> None:
        position = entry.offset_data
        sparse: Any = entry.sparse  # a list of (offset, size); typeshed says bytes
        if sparse is None:
            self._copy(position, entry.size, target, 0)
            return
        os.ftruncate(target, entry.size)
        for hole_end, size in sparse:
            self._copy(position, size, target, hole_end)
            position += size

    def _copy(self, position: int, size: int, target: int, at: int) -> None:
        """Copy `size` bytes of the archive from its `position` to `at` in the file `target`."""
        if size < 0:
            raise LayerError("unexpected end of layer")
        try:
            self._source.copy(position, size, target, at)
        except EOFError:
            raise LayerError("unexpected end of layer") from None

    def _make_hard_link(self, parent: int, name: str, entry: tarfile.TarInfo) -> None:
        linked = _clean(entry.linkname)
        directory, linked_name = posixpath.split(linked)
        if not linked_name:
            raise LayerError(f"hard link {entry.name!r} in layer to its root")
        try:
            linked_parent = open_directory_in_root(self._root, directory)
        except OSError:
            self._copy_up(linked, parent, name)
            return
        try:
            found = _lstat(linked_name, linked_parent)
            if found is None:
                self._copy_up(linked, parent, name)
                return
            existing = _lstat(name, parent)
            if existing and (existing.st_dev, existing.st_ino) == (found.st_dev, found.st_ino):
                return
            self._clear(parent, name)
            os.link(linked_name, name, src_dir_fd=linked_parent, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(linked_parent)

    def _copy_up(self, linked: str, parent: int, name: str) -> None:
        """A hard link to a file that only a lower layer has: a copy, as overlayfs itself would make."""
        for lower in self._lowers:
            try:
                source = open_in_root(lower, linked, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            with os.fdopen(source, "rb") as original:
                found = os.fstat(source)
                if not stat.S_ISREG(found.st_mode):
                    break
                self._clear(parent, name)
                target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
                with os.fdopen(target, "wb") as copy:
                    shutil.copyfileobj(original, copy, _PIECE)
                    copy.flush()
                    os.fchown(target, found.st_uid, found.st_gid)
                    os.fchmod(target, stat.S_IMODE(found.st_mode))
                    os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))
                return
        raise LayerError(f"hard link target {linked!r} not found in layer")

    # Whiteouts.

    def _white_out(self, parent: int, path: str, name: str) -> None:
        if name == _OPAQUE:
            self._mark_opaque(parent, ".")
            return
        if name.startswith(_WHITEOUT * 2):
            return  # AUFS' own notes
        hidden = name[len(_WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise LayerError(f"invalid whiteout {path!r} in layer")
        hidden_path = posixpath.join(posixpath.dirname(path), hidden)
        self._whited_out.add(hidden_path)
        existing = _lstat(hidden, parent)
        if existing is None:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        elif stat.S_ISDIR(existing.st_mode):  # this layer's own directory stays, what is below it does not show
            self._mark_opaque(parent, hidden)

    def _mark_opaque(self, parent: int, name: str) -> None:
        _set_xattr_at(parent, name, overlay.opaque(), b"y", required=True)

    # Directories on the way.

    def _open_parent(self, directory: str) -> int:
        if directory != self._parent_path:
            self._forget_parent()
            self._parent_descriptor = self._walk(directory, _MAX_PARENT_LINKS)
            self._parent_path = directory
        return self._parent_descriptor

    def _forget_parent(self) -> None:
        if self._parent_descriptor >= 0:
            os.close(self._parent_descriptor)
        self._parent_descriptor, self._parent_path = -1, None

    def _forget_parent_after(self, path: str) -> None:
        """Entries that replace a directory or a link may change where the remembered path leads."""
        if self._parent_path is not None and (self._parent_path + "/").startswith(path + "/"):
            self._forget_parent()

    def _walk(self, directory: str, links: int) -> int:
        """Open a directory of this layer, making those that the archive takes for granted."""
        try:
            return open_directory_in_root(self._root, directory)
        except (FileNotFoundError, NotADirectoryError):
            pass  # missing, or hidden by a whiteout; what is neither fails at the end
        if not directory:
            raise LayerError("the layer's directory is gone")
        above, name = posixpath.split(directory)
        parent = self._walk(above, links)
        try:
            existing = _lstat(name, parent)
            if existing is None or _is_whiteout(existing):
                if existing:
                    self._clear(parent, name)
                os.mkdir(name, 0o755, dir_fd=parent)
                if existing:
                    self._mark_opaque(parent, name)
                else:
                    self._take_attributes_from_below(parent, name, directory)
            elif stat.S_ISLNK(existing.st_mode) and links:
                # A link into a directory that only a lower layer has made so far.
                target = posixpath.normpath(posixpath.join("/", above, os.readlink(name, dir_fd=parent)))
                os.close(self._walk(target.lstrip("/"), links - 1))
            return open_directory_in_root(self._root, directory)
        finally:
            os.close(parent)

    def _take_attributes_from_below(self, parent: int, name: str, directory: str) -> None:
        for lower in self._lowers:
            try:
                original = open_directory_in_root(lower, directory)
            except OSError:
                continue
            found = os.fstat(original)
            os.close(original)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=parent, follow_symlinks=False)
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=parent)
            return

    # Small things.

    def _clear(self, parent: int, name: str) -> None:
        """Remove what an earlier entry of this layer left under the name."""
        existing = _lstat(name, parent)
        if existing is None:
            return
        if stat.S_ISDIR(existing.st_mode):
            remove(name, at=parent)
        else:
            os.unlink(name, dir_fd=parent)

    def _set_attributes(self, parent: int, name: str, entry: tarfile.TarInfo) -> None:
        """Owner, mode, extended attributes and time of anything but a regular file."""
        uid, gid = _owner(entry)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if not entry.issym():
            os.chmod(name, entry.mode & 0o7777, dir_fd=parent)
        for key, value in _xattrs(entry):
            _set_xattr_at(parent, name, key, value)
        os.utime(name, ns=_nanoseconds(entry.mtime), dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Times of directories, now that nothing is put into them any more."""
        for path, mtime in self._directory_times.items():
            try:
                directory = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # replaced by a later entry
            os.utime(directory, ns=_nanoseconds(mtime))
            os.close(directory)


def _lstat(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _owner(entry: tarfile.TarInfo) -> tuple[int, int]:
    if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
        raise LayerError(f"invalid owner {entry.uid}:{entry.gid} of {entry.name!r} in layer")
    return entry.uid, entry.gid


def _chown(descriptor: int, entry: tarfile.TarInfo) -> None:
    uid, gid = _owner(entry)
    if uid or gid:
        os.fchown(descriptor, uid, gid)


def _nanoseconds(mtime: float) -> tuple[int, int]:
    value = int(mtime * 1_000_000_000) if isinstance(mtime, float) else mtime * 1_000_000_000
    value = min(max(value, -(1 << 62)), 1 << 62)
    return value, value


def _xattrs(entry: tarfile.TarInfo) -> list[tuple[str, bytes]]:
    """Extended attributes that an archive may set; never those by which overlayfs is steered."""
    found: list[tuple[str, bytes]] = []
    for record, value in entry.pax_headers.items():
        if record.startswith(_XATTR_RECORD):
            key = record[len(_XATTR_RECORD) :]
            if key.startswith(_KEPT_XATTRS) and not key.startswith("user.overlay."):
                found.append((key, str(value).encode("utf-8", "surrogateescape")))
    return found


def _set_xattr(target: int, key: str, value: bytes, *, required: bool = False) -> None:
    try:
        os.setxattr(target, key, value)
    except OSError as error:
        if required or error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ERANGE):
            raise LayerError(f"cannot set {key}: {error.strerror}") from None


def _set_xattr_at(parent: int, name: str, key: str, value: bytes, *, required: bool = False) -> None:
    """On a directory or special file; symbolic links and devices carry none of the attributes kept here."""
    try:
        target = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        if required:
            raise
        return
    try:
        _set_xattr(target, key, value, required=required)
    finally:
        os.close(target)


def unpack(source: Source, target: Path, lowers: Sequence[Path] = ()) -> None:
    """Unpack an uncompressed tar into the existing empty directory `target`.

    `lowers` are the unpacked layers below, the nearest first: directories that the archive does not describe get
    their owner and mode there, hard links may point there. `LayerError` for an archive that is malformed or hostile;
    what was unpacked until then is the caller's to remove.
    """
    opened: list[int] = []
    try:
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.append(root)
        opened.extend(os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for lower in lowers)
        with (
            tarfile.TarFile(fileobj=source, mode="r", encoding="utf-8", errors="surrogateescape") as archive,  # type: ignore[arg-type]
            _Unpacker(source, root, opened[1:]) as unpacker,
        ):
            for entry in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every entry
                unpacker.unpack(entry)
            unpacker.finish()
    except (tarfile.TarError, OverflowError, ValueError, UnicodeError, RecursionError) as error:
        raise LayerError(f"failed to unpack layer: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise
        raise LayerError(f"failed to unpack layer: {error}") from error
    finally:
        for descriptor in opened:
            os.close(descriptor)
