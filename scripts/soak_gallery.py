"""The gallery under other processes: one that changes it, and others that are killed while they enrol.

A helper process prints what it is about to do and what it has done. Whatever was done must be in the gallery
at the end; what was begun when the process was killed may be there, but whole.
"""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from edgeface.errors import GalleryError
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.key import GalleryKey, read_key

TEMPLATES = 3  # of everybody who is enrolled here
_NAMES = 8  # of one writer: the gallery must not grow


class Writers:
    """Starts the helpers, and keeps account of what they said."""

    def __init__(self, gallery: Path, key: Path | None, seed: int) -> None:
        self.kills = 0
        self.changes = 0
        self._gallery = gallery
        self._key = key
        self._begun = 0
        with Gallery(gallery, key=key_in(key)) as opened:
            self._logged = len(opened.log().entries)
        self._random = random.Random(seed)
        self._state: dict[str, set[int]] = {}  # name: how many templates it may have
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def change(self) -> None:
        """Let another process change the gallery twice and end."""
        self._start("changer", operations=2, kill_after=None)

    def kill(self) -> None:
        """Let another process enrol, and end it with SIGKILL in the middle of something."""
        self._start("killed", operations=1000, kill_after=self._random.randint(1, 40))

    def wait(self) -> None:
        """Wait until all helpers have ended."""
        for thread in self._threads:
            thread.join()

    def faults(self, people: set[str]) -> list[str]:
        """Return what is wrong with the gallery, in which `people` were from the start."""
        wrong = []
        with Gallery(self._gallery, key=key_in(self._key)) as gallery:
            log = gallery.log()
            found = {person.name: person.templates for person in gallery.list()}
            names, matrix = gallery.templates()  # checks the length of each embedding
            ((verdict,),) = gallery._file.query("PRAGMA integrity_check")
        if log.broken is not None:
            wrong.append(f"its log: {log.broken}")
        logged = len(log.entries) - self._logged
        if not self.changes <= logged <= self._begun:
            wrong.append(f"{logged} entries in its log, {self.changes} changes done of {self._begun} begun")
        if verdict != "ok":
            wrong.append(f"SQLite says: {verdict}")
        if len(names) != sum(found.values()) or not np.isfinite(matrix).all():
            wrong.append("templates and people do not fit together")
        if missing := people - found.keys():
            wrong.append(f"gone: {', '.join(sorted(missing))}")
        for name in sorted(found.keys() | self._state.keys()):
            if name in people:
                continue
            allowed = self._state.get(name, set())
            if found.get(name, 0) not in allowed:
                wrong.append(f"{name} has {found.get(name, 0)} templates, not one of {sorted(allowed)}")
        return wrong

    def _start(self, prefix: str, operations: int, kill_after: int | None) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        busy = [thread for thread in self._threads if thread.name == prefix]
        seed, pause_s = self._random.getrandbits(32), self._random.uniform(0, 0.004)
        arguments = (prefix, operations, kill_after, seed, pause_s, busy)
        thread = threading.Thread(target=self._follow, args=arguments, name=prefix)
        thread.start()
        self._threads.append(thread)

    def _follow(
        self,
        prefix: str,
        operations: int,
        kill_after: int | None,
        seed: int,
        pause_s: float,
        before: list[threading.Thread],
    ) -> None:
        for thread in before:  # two writers of one name could not be told apart
            thread.join()
        command = [
            sys.executable,
            __file__,
            str(self._gallery),
            str(self._key or ""),
            prefix,
            str(operations),
            str(seed),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        begun = 0
        for line in process.stdout:
            if not line.endswith("\n"):  # killed while it wrote this: then it stands for nothing
                break
            what, name, count = line.split()
            with self._lock:
                if what == "begin":
                    begun += 1
                    self._begun += 1
                    self._state[name] = self._state.get(name, {0}) | {int(count)}
                else:
                    self.changes += 1
                    self._state[name] = {int(count)}
            if kill_after is not None and begun == kill_after and what == "begin":
                time.sleep(pause_s)
                process.kill()
                self.kills += 1
        process.wait()


def key_in(path: Path | None) -> GalleryKey | None:
    return None if path is None else read_key(path)


def write(path: Path, key: Path | None, prefix: str, operations: int, seed: int) -> None:
    """Enrol and remove people, one line before and one after each."""
    rng = np.random.default_rng(seed)
    with Gallery(path, timeout_s=30.0, key=key_in(key), command=prefix) as gallery:
        there = {person.name for person in gallery.list()}
        for _ in range(operations):
            name = f"{prefix}-{rng.integers(_NAMES)}"
            say("begin", name, 0 if name in there else TEMPLATES)
            if name in there:
                gallery.remove(name)
                there.remove(name)
                say("done", name, 0)
            else:
                vectors = rng.standard_normal((TEMPLATES, gallery.dimension))
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                gallery.enroll(name, [Template(vector.astype(np.float32)) for vector in vectors])
                there.add(name)
                say("done", name, TEMPLATES)


def say(what: str, name: str, count: int) -> None:
    os.write(1, f"{what} {name} {count}\n".encode())  # whole or not at all, which print does not promise


if __name__ == "__main__":
    try:
        path, key, prefix, operations, seed = sys.argv[1:]
        write(Path(path), Path(key) if key else None, prefix, int(operations), int(seed))
    except GalleryError as error:
        sys.exit(f"soak writer: {error}")
