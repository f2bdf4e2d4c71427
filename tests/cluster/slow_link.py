"""The link of a host through a program, which can lose and delay what passes (as `tc netem` does).

Not every kernel has netem; all have the devices of /dev/net/tun.  Lines of the standard input such
as ``0.05 0.2`` set the share of frames that are lost and the seconds that the others take.

Usage: slow_link.py PID_OF_THE_SWITCH NAME_OF_ITS_PORT PID_OF_THE_HOST
"""

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x0002 | 0x1000
FRAME = 65536


def open_tap(pid, name):
    """Make a network device in the namespace of a process; returns its file."""
    with open(f"/proc/{pid}/ns/net") as space:
        if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network of {pid}")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI))
    return tap


def carry(ends, commands):
    """Carry frames between two devices until nobody gives commands any more."""
    loss = delay = 0.0
    other, rng = dict(zip(ends, ends[::-1], strict=True)), random.Random(0)
    waiting, order = [], itertools.count()
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([*ends, commands], [], [], left)
        if commands in ready:
            line = os.read(commands, 100).decode()
            if not line:
                return
            loss, delay = map(float, line.split("\n")[-2].split())
        for end in other.keys() & ready:
            frame = os.read(end, FRAME)
            if rng.random() >= loss:
                due = time.monotonic() + delay
                heapq.heappush(waiting, (due, next(order), other[end], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            *_, end, frame = heapq.heappop(waiting)
            deliver(end, frame)


def deliver(end, frame):
    """Write a frame, or lose it where the device is full or down, as cards do."""
    try:
        os.write(end, frame)
    except OSError:
        return


if __name__ == "__main__":
    switch, port, host = sys.argv[1:]
    # A machine's own network is left as it is: both ends are in namespaces.
    carry([open_tap(switch, port), open_tap(host, "eth0")], sys.stdin.fileno())
