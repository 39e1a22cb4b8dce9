"""The files of a folder or zip, by their relative names."""

import os
import stat
import threading
import zipfile
from pathlib import Path

from jaxcam._ground import decoding, files
from jaxcam._ground.errors import ArgumentError, ArgumentFileError

__all__ = ["MAX_MEMBER", "Folder", "Zip", "open_files"]

MAX_MEMBER = 2**28  # bytes of a file in a zip, all of which are unpacked into memory


class Folder:
    """Files below a folder, by their relative names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Of all files and, with a "/" at the end, folders, at any depth; hidden ones excepted.

        Raises:
            ValueError: links in a circle.
        """
        found: list[str] = []
        waiting: list[tuple[Path, str, tuple]] = [(self.path, "", ())]
        while waiting:
            folder, prefix, above = waiting.pop()
            above = (*above, self._place(folder, above))
            for entry in self._visible(folder):
                if entry.is_dir():
                    found.append(f"{prefix}{entry.name}/")
                    waiting.append((Path(entry.path), f"{prefix}{entry.name}/", above))
                else:
                    found.append(prefix + entry.name)
        return found

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: no file, or one that is too large or may not be read; its message names it.
        """
        return files.read_bytes(self.path / name, decoding.MAX_BYTES)

    def _place(self, folder: Path, above: tuple) -> tuple[int, int]:
        """Which folder it is, whatever its name."""
        found = os.stat(folder)
        place = (found.st_dev, found.st_ino)
        if place in above:
            got = f"{folder}, a link to a folder that it lies in"
            raise ArgumentError("name", got, "links that do not lead in a circle")
        return place

    def _visible(self, folder: Path) -> list[os.DirEntry]:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]


class Zip:
    """Files in a zip, read from any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files.regular(path)
        try:
            self._zip = zipfile.ZipFile(path)
            self._members = self._checked(self._zip.infolist())
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
            raise ArgumentError("name", path, f"a zip ({error})") from error
        # ZipFile reads under its own lock, but counts its open members without one and closes
        # itself at zero.
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Of all files and, with a "/" at the end, folders that it lists, at any depth."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            ValueError: it is damaged, encrypted or larger than `MAX_MEMBER`; its message names it.
        """
        info = self._members[name]
        if info.file_size > MAX_MEMBER:
            got = f"{name} in {self.path}, of {info.file_size >> 20} MiB"
            raise ArgumentError("name", got, f"files of at most {MAX_MEMBER >> 20} MiB")
        try:
            with self._lock:
                member = self._zip.open(info)
            try:
                return member.read()
            finally:
                with self._lock:
                    member.close()
        except Exception as error:  # zipfile and its decoders raise many types
            got = f"{name} in {self.path}, which cannot be unpacked ({error})"
            raise ArgumentError("name", got, "a zip that is whole and not encrypted") from error

    def _checked(self, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        """The members by name; nothing is ever written, but what climbs or links is refused."""
        found: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename.replace("\\", "/")  # as some programs for Windows write them
            got = f"{name!r} in {self.path}"
            if name.startswith("/") or ".." in name.split("/") or name[1:3] == ":/":
                raise ArgumentError("name", f"{got}, a path that climbs", "paths within the zip")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise ArgumentError("name", f"{got}, a link", "files")
            if name in found and not name.endswith("/"):
                raise ArgumentError("name", f"{got} twice", "each once")
            found[name] = info
        return found


def open_files(path: Path) -> Folder | Zip:
    """The files of a folder or zip.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: a file that is no zip.
    """
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise ArgumentFileError("name", path, "a folder or zip of photos")
    if path.suffix.lower() != ".zip":
        raise ArgumentError("name", f"the file {path}", "a folder or a zip")
    return Zip(path)
