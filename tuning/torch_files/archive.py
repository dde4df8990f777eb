"""The zip file that ``torch.save`` writes, read piece by piece: nothing is unpacked, nothing is mapped.

Members are stored, not compressed, so that a tensor's rows can be read where they lie.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from wideloop.manifests.regular_files import check_regular
from wideloop.tuning.torch_files.errors import Unreadable
from wideloop.tuning.torch_files.pickled import Tensor

Array = npt.NDArray[Any]

#: Limits in bytes: a recording, its pickle, its list of members, and a tensor that is read as a whole.
MAX_BYTES = 64 * 1024**3
_MAX_PICKLE = 64 * 1024**2
_MAX_DIRECTORY = 256 * 1024**2
_MAX_WHOLE = 256 * 1024**2
#: Bytes read at a time.
_PIECE = 16 * 1024**2
_LOCAL_HEADER = 30
_END, _END64, _END64_AT = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"


class Archive:
    """One open dump.

    Example:
        >>> with Archive(path) as archive:
        ...     content = read_pickle(archive.pickle())

    Raises:
        Unreadable: it is not such a file, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            check_regular(path, MAX_BYTES)
            self._file = path.open("rb")
        except ValueError as error:
            raise Unreadable(str(error)) from error
        except OSError as error:
            raise Unreadable(f"cannot be read ({type(error).__name__})") from error
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._members = self._read_members()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()

    def pickle(self) -> bytes:
        """The pickle's bytes, checked against their checksum."""
        member = self._member("data.pkl")
        if member.file_size > _MAX_PICKLE:
            raise Unreadable(f"has a pickle of {member.file_size} bytes")
        return b"".join(self._pieces(member, 0, member.file_size, check=True))

    def check_holds(self, tensor: Tensor) -> None:
        """Check that the numbers of ``tensor`` are in the archive, before anything of its declared size is made.

        Raises:
            Unreadable: there are fewer.
        """
        if (tensor.last + 1) * np.dtype(tensor.dtype).itemsize > self._member(f"data/{tensor.key}").file_size:
            raise Unreadable("is damaged (a tensor is longer than its file)")

    def whole(self, tensor: Tensor) -> Array:
        """A small tensor of any layout."""
        member, dtype = self._member(f"data/{tensor.key}"), np.dtype(tensor.dtype)
        if member.file_size > _MAX_WHOLE:
            raise Unreadable(f"has a table of {member.file_size} bytes")
        self.check_holds(tensor)
        if math.prod(tensor.shape) * dtype.itemsize > _MAX_WHOLE:
            raise Unreadable(f"has a table of shape {tensor.shape}")
        stored = np.frombuffer(b"".join(self._pieces(member, 0, member.file_size, check=True)), np.uint8)
        items = stored[: stored.size // dtype.itemsize * dtype.itemsize].view(dtype)[tensor.offset :]
        strides = tuple(s * dtype.itemsize for s in tensor.strides)
        return np.lib.stride_tricks.as_strided(items, tensor.shape, strides, writeable=False)

    def rows(self, tensor: Tensor, *, check: bool = False) -> Iterator[Array]:
        """A contiguous tensor a few rows (of its first axis) at a time, in order.

        Args:
            check: compare with the archive's checksum at the end; worth it the first time that a file is read.
        """
        if not tensor.contiguous:
            raise Unreadable("has counts in an unusual layout")
        member, dtype = self._member(f"data/{tensor.key}"), np.dtype(tensor.dtype)
        width = math.prod(tensor.shape[1:]) * dtype.itemsize
        start, length = tensor.offset * dtype.itemsize, tensor.shape[0] * width
        if start + length > member.file_size:
            raise Unreadable("is damaged (a tensor is longer than its file)")
        piece = max(_PIECE // max(width, 1), 1) * width
        whole = start == 0 and length == member.file_size
        for data in self._pieces(member, start, length, check=check and whole, piece=piece):
            yield np.frombuffer(data, dtype).reshape(-1, *tensor.shape[1:])

    def _member(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._members[name]
        except KeyError:
            raise Unreadable(f"is damaged (it has no {name})") from None

    def _read_members(self) -> dict[str, zipfile.ZipInfo]:
        if not 0 < self._size <= MAX_BYTES:
            raise Unreadable(f"has {self._size} bytes")
        if self._directory_size() > _MAX_DIRECTORY:
            raise Unreadable("lists more members than a recording has")
        try:
            with zipfile.ZipFile(self._file) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            raise Unreadable("is truncated or not a file of torch.save") from error
        if any(i.compress_type != zipfile.ZIP_STORED or i.file_size != i.compress_size for i in infos):
            raise Unreadable("is compressed, which no file of torch.save is")
        if sum(i.file_size for i in infos) > self._size:
            raise Unreadable("would unpack to more bytes than it has")
        members = {i.filename.partition("/")[2]: i for i in infos}
        if len(members) != len(infos) or "data.pkl" not in members:
            raise Unreadable("is not a file of torch.save")
        order = members.get("byteorder")
        if order is not None and b"".join(self._pieces(order, 0, min(order.file_size, 16))) != b"little":
            raise Unreadable("was written by a big-endian machine")
        return members

    def _directory_size(self) -> int:
        """Bytes of the list of members, which zipfile reads at once; the end of the file gives its size."""
        length = min(self._size, 65_557)
        tail = self._at(self._size - length, length)
        end = tail.rfind(_END)
        if end < 0 or len(tail) < end + 22:
            raise Unreadable("is truncated or not a file of torch.save")
        (size,) = struct.unpack_from("<I", tail, end + 12)
        if tail[max(end - 20, 0) : end].startswith(_END64_AT):
            (at,) = struct.unpack_from("<Q", tail, end - 12)
            record = self._at(at, 56) if at + 56 <= self._size else b""
            if not record.startswith(_END64):
                raise Unreadable("is truncated or not a file of torch.save")
            (size,) = struct.unpack_from("<Q", record, 40)
        return int(size)

    def _pieces(
        self, member: zipfile.ZipInfo, start: int, length: int, *, check: bool = False, piece: int = _PIECE
    ) -> Iterator[bytes]:
        header = self._at(member.header_offset, _LOCAL_HEADER)
        if not header.startswith(b"PK\x03\x04"):
            raise Unreadable("is damaged (a member is not where the list has it)")
        name, extra = struct.unpack_from("<HH", header, 26)
        at, end = member.header_offset + _LOCAL_HEADER + name + extra + start, start + length
        checksum = 0
        while start < end:
            count = min(piece, end - start)
            data = self._at(at, count)
            checksum = zlib.crc32(data, checksum) if check else 0
            yield data
            at, start = at + count, start + count
        if check and checksum != member.CRC:
            raise Unreadable("is damaged (a checksum does not match)")

    def _at(self, offset: int, count: int) -> bytes:
        # A damaged list of members may name any place, one before the file's beginning too.
        data = os.pread(self._file.fileno(), count, offset) if offset >= 0 else b""
        if len(data) != count:
            raise Unreadable("is truncated")
        return data
