"""The command `raydeblend` without the seconds that its imports take, for pages of many commands.

The server has imported what the commands need.  For each it makes a copy of itself, in the folder
and with the environment and the streams of the script `raydeblend` that called.
"""

import gc
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from in_process import catalogs_in_process
from waiting import wait_for

from raydeblend.cli.main import main

IMPORTED = (
    "astropy.table",
    "matplotlib.pyplot",
    "raydeblend.deblend.joint.deblender",
    "raydeblend.deblend.sep",
    "raydeblend.draw.maps",
    "raydeblend.draw.report.page",
)
"""What commands import when they need it, and that takes long."""
IN_PROCESS = ("simulate", "catalog")
"""Commands that do without Ray here."""

CALL = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    socket.send_fds(server, [b" "], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(8)))
"""


@contextmanager
def running_commands() -> Iterator[str]:
    """Run the server; gives the folder of the `raydeblend` that asks it."""
    # Short: sockets have short names.
    with tempfile.TemporaryDirectory(prefix="rc") as folder:
        path, command = Path(folder, "socket"), Path(folder, "raydeblend")
        command.write_text(CALL.format(python=sys.executable, path=str(path)))
        command.chmod(0o755)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        server = subprocess.Popen([sys.executable, __file__, str(path)], env=environment)
        try:
            wait_for(lambda: path.exists() or server.poll() is not None, 300)
            yield folder
        finally:
            server.terminate()
            server.wait()


def serve(path: str) -> None:
    """Answer at a socket, each call in a process of its own."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            call, _ = server.accept()
            with call:
                if not os.fork():
                    answer(call)
                    os._exit(0)


def answer(call: socket.socket) -> None:
    """Do a command in another copy, and tell its exit code."""
    _, streams, *_ = socket.recv_fds(call, 1, 3)
    with call.makefile() as told:
        arguments, folder, environment = json.load(told)
    command = os.fork()
    if not command:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        run(arguments)
        sys.exit()
    _, status = os.waitpid(command, 0)
    call.sendall(str(os.waitstatus_to_exitcode(status) % 256).encode())


def run(arguments: list[str]) -> None:
    """Do a command in this process."""
    sys.argv = ["raydeblend", *arguments]
    with catalogs_in_process() if arguments[0] in IN_PROCESS else nullcontext():
        main()


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()  # else each copy spends its time on the modules of this process
    serve(sys.argv[1])
