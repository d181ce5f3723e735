# SPDX-License-Identifier: Apache-2.0
"""A disk that loses what was not synced: the trace of a real run (shim/trace.c) becomes images of its directory after a power cut.

What a file system may do, more than any one does:
- a write lasts once an fsync or fdatasync of its file, begun behind it, has come to its end; before that each of its 512-byte sectors
  may be there or not, in any order, and the length of the file may have come before the data (holes of zeros) or not;
- a truncation is the same: there or not;
- a name made, renamed or removed lasts once the directory's fsync, begun behind it, has ended; before that each such change may be there or
  not, whatever came behind it; a rename itself is whole;
- the directory itself lasts once the fsync of its parent has ended.
"""
import collections
import struct

RECORD = struct.Struct("<IIQQQQII")
FIRST = 64
SECTOR = 512
OPEN, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, LINK, UNLINK, MKDIR = range(1, 10)
O_CREAT, O_TRUNC = 0o100, 0o1000

Event = collections.namedtuple("Event", "op inode offset number data name other")
Change = collections.namedtuple("Change", "at kind file offset data")  # of a file's bytes
Naming = collections.namedtuple("Naming", "at kind name other file")  # of the directory


def read_trace(path):
    """The events in their order."""
    raw = path.read_bytes()
    used, = struct.unpack_from("<Q", raw, 0)
    if FIRST + used > len(raw):
        raise ValueError("the trace needs %d bytes, the file has %d" % (used, len(raw)))
    events, at = [], FIRST
    while at < FIRST + used:
        size, op, inode, offset, number, n_data, n_name, n_other = RECORD.unpack_from(raw, at)
        if size == 0:
            raise ValueError("a record of the trace is not complete")
        body = at + RECORD.size
        data = raw[body:body + n_data]
        name = raw[body + n_data:body + n_data + n_name].decode()
        other = raw[body + n_data + n_name:body + n_data + n_name + n_other].decode()
        events.append(Event(op, inode, offset, number, data, name, other))
        at += size
    return events


class File:
    def __init__(self, data=b""):
        self.base = data  # that lasts already
        self.changes = []
        self.syncs = []  # (begin, end) by place in the trace


class Disk:
    """What a run did to its directory, by place in the trace. `before`: {name: (inode, bytes)} of a directory that was there."""

    def __init__(self, events, dir_inode=None, parent_inode=None, before=None):
        self.events, self.namings, self.dir_syncs, self.parent_syncs = events, [], [], []
        self.made_at = None  # the directory's own place
        self.before = {name: File(data) for name, (_, data) in (before or {}).items()}
        view = dict(self.before)
        by_inode = {inode: self.before[name] for name, (inode, _) in (before or {}).items()}
        begun = {}
        for at, e in enumerate(events):
            if e.op == MKDIR:
                self.made_at, dir_inode = at, e.inode
            elif e.op == OPEN:
                self.opened(at, e, view, by_inode)
            elif e.op == WRITE and e.inode in by_inode:
                file = by_inode[e.inode]
                file.changes.append(Change(at, WRITE, file, e.offset, e.data))
            elif e.op == TRUNCATE:
                file = by_inode[e.inode]
                file.changes.append(Change(at, TRUNCATE, file, e.offset, b""))
            elif e.op == SYNC_BEGIN:
                begun[e.number] = at
            elif e.op == SYNC_END:
                span = (begun.pop(e.number), at)
                if e.inode == dir_inode:
                    self.dir_syncs.append(span)
                elif e.inode == parent_inode:
                    self.parent_syncs.append(span)
                elif e.inode in by_inode:
                    by_inode[e.inode].syncs.append(span)
            elif e.op in (RENAME, LINK):
                self.namings.append(Naming(at, e.op, e.name, e.other, view[e.name]))
                view[e.other] = view[e.name]
                if e.op == RENAME:
                    del view[e.name]
            elif e.op == UNLINK:
                self.namings.append(Naming(at, UNLINK, e.name, "", view.pop(e.name)))
        self.files = set(self.before.values()) | {n.file for n in self.namings}

    def opened(self, at, e, view, by_inode):
        if not e.name:  # a file without a name: gone with the power
            by_inode.pop(e.inode, None)
            return
        if e.name not in view:
            view[e.name] = by_inode[e.inode] = File()
            self.namings.append(Naming(at, OPEN, e.name, "", view[e.name]))
        elif by_inode.get(e.inode) is not view[e.name]:
            raise ValueError("'%s' is another file than the trace says" % e.name)
        elif e.number & O_TRUNC:
            view[e.name].changes.append(Change(at, TRUNCATE, view[e.name], 0, b""))

    def sync_points(self):
        """Places behind which something lasts, and the ones before it: where a cut says most."""
        return [at for at, e in enumerate(self.events) if e.op in (SYNC_BEGIN, SYNC_END)]

    # ---------------------------------------------------------------- images

    @staticmethod
    def lasting(syncs, cut):
        """Everything before this place lasts, when the power goes before event `cut`."""
        return max((begin for begin, end in syncs if end < cut), default=0)

    def bytes_of(self, file, cut, how, rnd):
        data = bytearray(file.base)
        lasts = self.lasting(file.syncs, cut)
        length = len(data)
        for c in (c for c in file.changes if c.at < cut):
            sure = c.at < lasts
            if c.kind == TRUNCATE:
                if sure or how.keeps(c.at, rnd):
                    del data[c.offset:]
                    data.extend(bytes(c.offset - len(data)))
                    length = c.offset
                continue
            end = c.offset + len(c.data)
            at = c.offset
            while at < end:
                to = min(end, (at // SECTOR + 1) * SECTOR)
                if sure or how.keeps_sector(c.at, rnd):
                    if len(data) < to:
                        data.extend(bytes(to - len(data)))
                    data[at:to] = c.data[at - c.offset:to - c.offset]
                at = to
            length = max(length, end) if sure or how.length_first else length
        if len(data) < length:
            data.extend(bytes(length - len(data)))
        return bytes(data)

    def names_at(self, cut, how, rnd):
        lasts = self.lasting(self.dir_syncs, cut)
        names = dict(self.before)
        for n in (n for n in self.namings if n.at < cut):
            if n.at >= lasts and not how.keeps_name(n.at, rnd):
                continue
            if n.kind in (RENAME, UNLINK) and names.get(n.name) is n.file:
                del names[n.name]
            if n.kind == OPEN:
                names[n.name] = n.file
            elif n.kind in (RENAME, LINK):
                names[n.other] = n.file
        return names

    def image(self, cut, how, rnd):
        """{name: bytes} after a power cut before event `cut`; None: not even the directory is there."""
        if self.made_at is not None:
            if cut <= self.made_at:
                return None
            if self.lasting(self.parent_syncs, cut) <= self.made_at and not how.keeps_name(self.made_at, rnd):
                return None
        return {name: self.bytes_of(file, cut, how, rnd) for name, file in self.names_at(cut, how, rnd).items()}


class How:
    """What becomes of that which was not synced. A share of 1: all of it is there; 0: none."""

    def __init__(self, name, data=0.0, names=0.0, length_first=False, until=None):
        self.name, self.data, self.names, self.length_first, self.until = name, data, names, length_first, until

    def keeps(self, at, rnd):
        if self.until is not None:
            return at < self.until
        return rnd.random() < self.data

    keeps_sector = keeps

    def keeps_name(self, at, rnd):
        if self.until is not None:
            return at < self.until
        return rnd.random() < self.names

    def __str__(self):
        return self.name


ALL = How("all is there", 1, 1)


def ways(rnd, cut):
    """Some of each kind: nothing, everything, one side before the other, any sector, and in order up to a place."""
    yield How("nothing that was not synced")
    yield ALL
    yield How("data before names", 1, 0)
    yield How("names before data", 0, 1)
    yield How("names and lengths before data", 0, 1, True)
    until = cut // 2 + rnd.randrange(cut // 2 + 1)
    yield How("in order up to event %d" % until, until=until)
    while True:
        data, names, first = rnd.choice((0.1, 0.5, 0.9)), rnd.choice((0, 0.3, 0.5, 0.9, 1)), rnd.random() < 0.5
        yield How("%d %% of the sectors%s, %d %% of the names" % (data * 100, ", lengths first" if first else "", names * 100),
                  data, names, first)
