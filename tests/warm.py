"""Run `python run.py ...` and `portraitlab ...` in forks of one process that has their imports.

A program's imports take most of a smoke run. A child is what a fresh interpreter would be but for
that: its own arguments, environment, folder, output and exit code. The server that forks the jobs
of a sweep is such a fork likewise.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from multiprocessing import util
from typing import IO, Any, NoReturn

from placed import ROOT

# Without wandb, whose temporary folder of pictures ends with the first program that imports it.
_IMPORTED = (
    *("lightning", "torchvision", "diffusers", "transformers", "pyarrow", "rich"),
    *("hydra._internal.hydra", "portraitlab.app.task.train", "portraitlab.launching.perform"),
    *("portraitlab.launching.local", "portraitlab.scoring.judge", "portraitlab.data.world"),
    *("portraitlab.world.pretrained", "portraitlab.tables.ending"),
    *("portraitlab.method.net.hifi_net", "portraitlab.method.fusion.refiner"),
    *("portraitlab.training.loggers", "portraitlab.scoring.metrics.fid"),
    "portraitlab.method.sampler.ddim",
)


class Program:
    """A program in a fork, which leads a process group of its own as a terminal's jobs do.

    pid: id of the program's process and of its group.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pid = _number(connection)
        self.code: int | None = None

    def wait(self, timeout: float) -> int:
        """Wait for the exit code. Raises TimeoutError after `timeout` seconds."""
        if self.code is None:
            self.connection.settimeout(timeout)
            self.code = _number(self.connection)
            self.connection.close()
        return self.code

    def poll(self) -> int | None:
        """Return the exit code; None while the program runs."""
        if self.code is None and not select.select([self.connection], [], [], 0)[0]:
            return None
        return self.wait(10)


class Warm:
    """A process that forks a child for each command; `run` is subprocess.run for a program."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self.lock = threading.Lock()
        atexit.register(self.close)

    def start(
        self,
        arguments: list[str],
        environment: dict[str, str],
        out: IO[Any],
        err: IO[Any],
        program: str = "run.py",
    ) -> Program:
        """Start a program with arguments in an environment; it prints into two files.

        program: a file, or the name of a module.
        """
        own, theirs = socket.socketpair()
        request = json.dumps([program, arguments, environment]).encode()
        with theirs, self.lock:
            files = [theirs.fileno(), out.fileno(), err.fileno()]
            socket.send_fds(self.socket, [len(request).to_bytes(8, "little")], files)
            self.socket.sendall(request)
        return Program(own)

    def run(
        self,
        arguments: list[str],
        environment: dict[str, str],
        timeout: float,
        program: str = "run.py",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program with arguments in an environment, and capture what it prints.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout` seconds.
        """
        command = [sys.executable, program, *arguments]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            started = self.start(arguments, environment, out, err, program)
            try:
                code = started.wait(timeout)
            except TimeoutError:
                os.killpg(started.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout) from None
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(command, code, *texts)

    def close(self) -> None:
        """End the process."""
        self.socket.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:  # a fork of this process still has the socket
            self.process.kill()
            self.process.wait()


@cache
def warm() -> Warm:
    """The process of this worker of pytest's, started when it is first needed."""
    return Warm()


def _number(connection: socket.socket) -> int:
    return int.from_bytes(_exactly(connection, 8), "little", signed=True)


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise EOFError("the other process has ended")
        content += part
    return content


def _serve(connection: socket.socket) -> None:
    """Fork a process for each request, which forks the program and sends back its exit code."""
    while True:
        head, handles, _, _ = socket.recv_fds(connection, 8, 3)
        with suppress(ChildProcessError):  # wait, so that their time counts as the tests'
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not head:
            return
        request = json.loads(_exactly(connection, int.from_bytes(head, "little")))
        if os.fork() == 0:
            connection.close()
            answer = socket.socket(fileno=handles[0])
            program = os.fork()
            if program == 0:
                answer.close()
                _become(*request, handles[1:])
            answer.sendall(program.to_bytes(8, "little", signed=True))
            code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
            answer.sendall(code.to_bytes(8, "little", signed=True))
            os._exit(0)
        for handle in handles:
            os.close(handle)


def _become(
    program: str, arguments: list[str], environment: dict[str, str], handles: list[int]
) -> NoReturn:
    """Run the program in this fork, which ends with it."""
    code = 1
    try:
        os.setsid()
        for inherited in list(weakref.finalize._registry):
            inherited.atexit = False  # such as a temporary folder's, which is the parent's
        for target, handle in zip((1, 2), handles, strict=True):
            os.dup2(handle, target)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [program, *arguments]
        sys.path[0] = str(ROOT)
        sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        util.spawnv_passfds = _Server().start
        if program.endswith(".py"):
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


class _Server:
    """A fork in the place of the interpreter that multiprocessing starts as its fork server.

    It is forked before the program begins, so it has the imports and nothing that the program has
    changed. Other interpreters are started as ever.
    """

    def __init__(self) -> None:
        self.exec = util.spawnv_passfds
        self.socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.socket.close()
            _await(theirs)
        theirs.close()

    def start(self, path: str, arguments: Sequence[str], handles: Sequence[int]) -> int:
        """Start `python -c CODE` with inherited handles, and return the process's number."""
        code = arguments[-1]
        if "multiprocessing.forkserver" not in code:
            number: int = self.exec(path, arguments, handles)
            return number
        request = json.dumps([code, dict(os.environ), list(handles)]).encode()
        socket.send_fds(self.socket, [len(request).to_bytes(8, "little")], list(handles))
        self.socket.sendall(request)
        util.spawnv_passfds = self.exec
        return self.pid


def _await(connection: socket.socket) -> NoReturn:
    """Wait for the server's code, and run it with its handles in their places."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    head, received, _, _ = socket.recv_fds(connection, 8, 2)
    if not head:  # the program has ended without it
        os._exit(0)
    code, environment, handles = json.loads(_exactly(connection, int.from_bytes(head, "little")))
    connection.close()
    aside = [fcntl.fcntl(handle, fcntl.F_DUPFD, 1000) for handle in received]
    for handle in received:
        os.close(handle)
    for handle, target in zip(aside, handles, strict=True):
        os.dup2(handle, target)
        os.close(handle)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        exec(code, {"__name__": "__main__"})
    except BaseException as stop:  # its children leave this function by os._exit
        if not isinstance(stop, SystemExit):
            traceback.print_exc()
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for name in _IMPORTED:
        __import__(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)
