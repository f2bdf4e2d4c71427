"""Hosts of namespaces: each with a network, processes, a name and disks of its own.

Nothing is made in the machine's own network, and every host is a process that the kernel ends with
this one, with all that runs on it: however a test ends, nothing is left to clean up.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from waiting import wait_for

NETWORK = "10.77.0"
TOOLS = ("unshare", "nsenter", "ip", "cc")
FOLDER = "/run"
"""On a disk of each host's own; Ray's sockets need a short path."""
DISK_MB = 300
ALIVE = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"
"""The first process of a host reaps those that lose their parents."""
MOUNTS = f"""
hostname "$1"
mount -t tmpfs -o size={DISK_MB}m tmpfs {FOLDER}
mount -t tmpfs -o size=1g tmpfs /dev/shm
exec "$2" -c "$3"
"""
PR_SET_PDEATHSIG = 1


def why_not():
    """Say what this machine lacks for namespaces; empty if it has all."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened"
    tried = subprocess.run(
        ["unshare", "--net", "--pid", "--uts", "--mount", "--fork", "ip", "link", "add",
         "br0", "type", "bridge"], capture_output=True, text=True,
    )  # fmt: skip
    return tried.stderr.strip() if tried.returncode else ""


class Network:
    """A switch, and hosts on it by name.

    Attributes
    ----------
    switch
        Process that holds the namespace of the bridge.
    """

    def __init__(self):
        self.stack = ExitStack()
        self.hosts = {}
        self.switch = self.start(["unshare", "--net", sys.executable, "-c", ALIVE])
        wait_for(lambda: _network(self.switch.pid) != _network("self"), 20)
        on_network(self.switch.pid, "ip link add br0 type bridge")
        on_network(self.switch.pid, "ip link set br0 up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def start(self, command, **more):
        """Start a process that ends when this one does."""
        process = subprocess.Popen(command, preexec_fn=_end_with_parent, **more)
        self.stack.callback(_end, process)
        return process

    def add(self, name, wire=None):
        """Add a host; `wire` is the command of a program that is its link (see `slow_link`)."""
        host = Host(self, name, f"{NETWORK}.{len(self.hosts) + 1}")
        port = f"port{len(self.hosts) + 1}"
        if wire:
            host.wire = self.start(
                [*wire, str(self.switch.pid), port, str(host.pid)], stdin=subprocess.PIPE
            )
            wait_for(lambda: host.has_link() and self.has_port(port), 20)
        else:
            self.run(f"ip link add {port} type veth peer name eth0 netns {host.pid}")
        self.run(f"ip link set {port} master br0 up")
        on_network(host.pid, "ip link set lo up")
        on_network(host.pid, f"ip address add {host.address}/24 dev eth0")
        on_network(host.pid, "ip link set eth0 up")
        host.port = port
        self.hosts[name] = host
        return host

    def run(self, command):
        """Run a command in the network of the switch."""
        on_network(self.switch.pid, command)

    def has_port(self, port):
        return _has_device(self.switch.pid, port)


class Host:
    """One host: `pid` is its first process, as this machine counts."""

    wire = None

    def __init__(self, network, name, address):
        self.network, self.name, self.address = network, name, address
        self.holder = network.start(
            ["unshare", "--net", "--pid", "--uts", "--mount", "--fork", "--kill-child",
             "--mount-proc", "sh", "-c", MOUNTS, "sh", name, sys.executable, ALIVE]
        )  # fmt: skip
        self.pid = wait_for(lambda: _first_child(self.holder.pid), 20)
        wait_for(lambda: b"signal.pause" in Path(f"/proc/{self.pid}/cmdline").read_bytes(), 20)

    def command(self, command):
        """Return what runs a command on the host."""
        target = ["nsenter", "--target", str(self.pid), "--net", "--pid", "--uts", "--mount"]
        # Of nsenter alone a new namespace of mounts would take the place of the folder.
        return [*target, f"--wdns={os.getcwd()}", "--", *command]

    def start(self, command, **more):
        """Start a process on the host."""
        return self.network.start(self.command(command), **more)

    def run(self, command, timeout=120, **more):
        """Run a command on the host to its end; returns exit code and all that it said."""
        done = subprocess.run(
            self.command(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout, **more,
        )  # fmt: skip
        return done.returncode, done.stdout

    def has_link(self):
        return _has_device(self.pid, "eth0")

    def cut_off(self):
        """Let nothing through to the host or from it; its card sees no difference."""
        self.network.run(f"ip link set {self.port} nomaster")

    def join(self):
        """Undo `cut_off`."""
        self.network.run(f"ip link set {self.port} master br0")

    def degrade(self, loss, delay):
        """Lose that share of all frames on the link, and delay the others by seconds."""
        self.wire.stdin.write(f"{loss} {delay}\n".encode())
        self.wire.stdin.flush()

    def processes(self, word):
        """Processes on the host with a word in their command line, as this machine counts."""
        return [pid for pid, command in commands_below(self.pid).items() if word in command]

    def halt(self):
        """End all processes on the host but its first."""
        ended = "import os, signal; os.kill(-1, signal.SIGKILL)"
        self.run([sys.executable, "-c", ended])


def commands_below(pid):
    """Command lines by process id of what runs in the namespace of processes of `pid`."""
    space, found = os.readlink(f"/proc/{pid}/ns/pid"), {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == pid:
            continue
        try:
            if os.readlink(entry / "ns/pid") == space:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue
    return {pid: command.replace("\0", " ") for pid, command in found.items() if command}


def on_network(pid, command):
    """Run a command in the network of a process."""
    subprocess.run(["nsenter", "--target", str(pid), "--net", *command.split()], check=True)


def _has_device(pid, name):
    return name in Path(f"/proc/{pid}/net/dev").read_text()


def _network(pid):
    return os.readlink(f"/proc/{pid}/ns/net")


def _first_child(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0


def _end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process):
    process.kill()
    process.wait()
