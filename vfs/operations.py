"""What each request of the kernel is answered with: translates, decides nothing.

An operation answers at once where all that it needs is in memory, and else says how to go on in a
task of its own. Nothing but RequestError and StoreError is expected to come out of one.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from store.directories import MAX_NAME_BYTES
from vfs.errors import NotADevice
from vfs.filesystem import Listing, RevisionFilesystem
from vfs.kernel_messages import (
    NAME_BYTES,
    Opcode,
    Owner,
    ReadRange,
    Request,
    pack_dot,
    pack_entry,
    pack_getattr,
    pack_name,
    pack_name_with_entry,
    pack_opened,
    pack_statfs,
    parse_name,
    parse_range,
)
from vfs.tree import Absent

Later = Callable[[], Awaitable[bytes]]
Answer = bytes | Later
"""The body of an answer, or what gives it."""

Operation = Callable[[Request, bytearray], Answer]


class Operations:
    """The requests to one mount. `by_opcode` has those that are known; what is not there is
    answered ENOSYS.

    So is, on purpose, what the kernel then never asks again and does without: opening a file, and
    a directory whose listing never changes, with their release; flush; access; extended attributes.
    Listings are then kept in the page cache.
    """

    def __init__(self, filesystem: RevisionFilesystem, owner: Owner) -> None:
        self._filesystem = filesystem
        self._owner = owner
        self.by_opcode: dict[int, Operation] = {
            Opcode.LOOKUP: self.lookup,
            Opcode.GETATTR: self.getattr,
            Opcode.READLINK: self.readlink,
            Opcode.READ: self.read,
            Opcode.STATFS: self.statfs,
            Opcode.READDIR: partial(self.readdir, with_attributes=False),
            Opcode.READDIRPLUS: partial(self.readdir, with_attributes=True),
            Opcode.IOCTL: self.ioctl,
        }
        if not filesystem.keeps_listings:
            self.by_opcode[Opcode.OPENDIR] = self.opendir
            self.by_opcode[Opcode.RELEASEDIR] = self.releasedir

    def lookup(self, request: Request, buffer: bytearray) -> Answer:
        """The entry of a name."""
        name = parse_name(buffer, request)
        try:
            return pack_entry(self._filesystem.get_lookup(request.inode, name), self._owner)
        except Absent:
            return partial(self._lookup_later, request.inode, name)

    def getattr(self, request: Request, buffer: bytearray) -> Answer:
        """The attributes of a node."""
        try:
            return pack_getattr(self._filesystem.get_attributes(request.inode), self._owner)
        except Absent:
            return partial(self._getattr_later, request.inode)

    def readlink(self, request: Request, buffer: bytearray) -> Answer:
        """The target of a symbolic link."""
        return partial(self._filesystem.read_link, request.inode)

    def read(self, request: Request, buffer: bytearray) -> Answer:
        """Bytes of a file."""
        wanted = parse_range(buffer)
        try:
            content = self._filesystem.read_now(request.inode, wanted.offset, wanted.size)
        except Absent:
            content = None
        if content is None:
            return partial(self._filesystem.read, request.inode, wanted.offset, wanted.size)
        return content

    def opendir(self, request: Request, buffer: bytearray) -> Answer:
        """A handle to list a directory by, where names can come to mean something else."""
        return partial(self._opendir_later, request.inode)

    def releasedir(self, request: Request, buffer: bytearray) -> Answer:
        """Nothing is held for an open directory."""
        return b""

    def readdir(self, request: Request, buffer: bytearray, *, with_attributes: bool) -> Answer:
        """Names of a directory, as many as there is room for."""
        wanted = parse_range(buffer)
        handle = wanted.handle or request.inode
        try:
            listing = self._filesystem.get_listing(handle)
        except Absent:
            return partial(self._readdir_later, handle, wanted, with_attributes)
        return self._names(listing, wanted, with_attributes)

    def statfs(self, request: Request, buffer: bytearray) -> Answer:
        """What statfs(2) says: full, and nothing counted."""
        return pack_statfs(MAX_NAME_BYTES)

    def ioctl(self, request: Request, buffer: bytearray) -> Answer:
        """No file here is a device. Python asks of each file that it opens."""
        raise NotADevice(request.inode)

    async def _lookup_later(self, parent: int, name: bytes) -> bytes:
        return pack_entry(await self._filesystem.lookup(parent, name), self._owner)

    async def _getattr_later(self, inode: int) -> bytes:
        return pack_getattr(await self._filesystem.load_attributes(inode), self._owner)

    async def _opendir_later(self, inode: int) -> bytes:
        return pack_opened(await self._filesystem.open_directory(inode))

    async def _readdir_later(self, handle: int, wanted: ReadRange, with_attributes: bool) -> bytes:
        listing = await self._filesystem.list_directory(handle)
        return self._names(listing, wanted, with_attributes)

    def _names(self, listing: Listing, wanted: ReadRange, with_attributes: bool) -> bytes:
        parts: list[bytes] = []
        room = wanted.size
        for name, inode, next_position in listing.dots[wanted.offset :]:
            part = pack_dot(name, inode, next_position, padded=with_attributes)
            room -= len(part)
            if room < 0:
                return b"".join(parts)
            parts.append(part)
        pack = pack_name_with_entry if with_attributes else pack_name
        most = room // NAME_BYTES + 1
        for name, attributes, next_position in listing.items(wanted.offset, most):
            part = pack(name, attributes, next_position, self._owner)
            room -= len(part)
            if room < 0:
                break
            parts.append(part)
        return b"".join(parts)
