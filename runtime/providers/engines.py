"""Engines that TensorRT built: kept for exactly the network, shapes, libraries and GPU that they were built for.

An engine takes minutes to build and is a program for one GPU. onnxruntime keeps it in a folder, but by its own
documentation does not notice all that makes it wrong. So each set of facts has a folder of its own here, whose name
is the hash of the facts: whatever changes, another folder is looked for. A folder is built aside and gets its name
when it is whole, under a lock, so that two processes neither see half an engine nor build the same one twice.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from platformdirs import user_cache_path

from edgeface.errors import ProviderError
from edgeface.files import new_folder, sha256, write_bytes, write_text
from edgeface.ownership import writable_by_others
from edgeface.runtime.providers.gpu import Gpu, find_gpu, tensorrt_version

MARK: Final = "facts.json"
"""Written last: a folder that has it is whole."""
UNUSED_DAYS: Final = 90
"""Engines that nothing opened for so long are removed when others are built."""
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """All that an engine depends on.

    Attributes:
        model: SHA-256 of the network.
        onnxruntime: version.
        tensorrt: version, as TensorRT numbers it.
        gpu: name, compute capability and driver.
        precision: of the network, which decides how TensorRT may compute.
        shapes: least, usual and largest, by provider option.
        limit: of TensorRT's working memory in bytes.
    """

    model: str
    onnxruntime: str
    tensorrt: str
    gpu: Gpu
    precision: str
    shapes: Mapping[str, str]
    limit: int | None

    def text(self) -> str:
        """Return the facts as JSON, the same for the same facts."""
        return json.dumps(asdict(self), sort_keys=True)

    def environment(self) -> str:
        """Return what a timing cache depends on: everything but the network."""
        return json.dumps([self.onnxruntime, self.tensorrt, asdict(self.gpu)], sort_keys=True)


def engine_facts(
    model: bytes,
    *,
    version: str,
    library: Path,
    device: int,
    precision: str,
    shapes: Mapping[str, str],
    limit: int | None,
) -> EngineFacts:
    """Gather the facts.

    Args:
        model: the network.
        version: of onnxruntime.
        library: onnxruntime's TensorRT provider.
        device: number of the GPU.
        precision: of the network.
        shapes: as `EngineFacts.shapes`.
        limit: as `EngineFacts.limit`.

    Raises:
        ProviderError: there is no GPU of that number, or TensorRT does not load.
    """
    gpu = find_gpu(device)
    if gpu is None:
        raise ProviderError(
            f"provider tensorrt: there is no NVIDIA GPU {device} that this process may use; see nvidia-smi and "
            "CUDA_VISIBLE_DEVICES, or choose another one with --device"
        )
    return EngineFacts(sha256(model), version, tensorrt_version(library), gpu, precision, shapes, limit)


class EngineStore:
    """The folder with all engines of a user. Engines are programs, so nobody else may write there."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or user_cache_path("edgeface") / "tensorrt"

    def folder(self, facts: EngineFacts) -> Path:
        """Return where the engines for these facts lie, once they are built."""
        return self.root / sha256(facts.text().encode())[:32]

    def find(self, facts: EngineFacts) -> Path | None:
        """Return the folder with the engines for these facts, None if they are not built.

        Raises:
            ProviderError: somebody else can write there.
        """
        folder = self.folder(facts)
        try:
            if (folder / MARK).read_text(encoding="utf-8") != facts.text():
                return None
            self._refuse_strangers(folder)
            os.utime(folder / MARK)  # so that it does not count as unused
        except (OSError, UnicodeDecodeError):
            return None
        return folder

    @contextlib.contextmanager
    def building(self, facts: EngineFacts) -> Iterator[Path | None]:
        """Give a folder to build the engines in; it is kept when the block ends without an error.

        Waits while another process builds the same ones, and gives None if they are there then.

        Raises:
            ProviderError: nothing was built, or the folder cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.root / f"{self.folder(facts).name}.lock").open("wb")
        except OSError as error:
            raise ProviderError(f"engines cannot be kept in {self.root}: {error.strerror}; make it writable") from None
        with lock, _locked(lock):
            if self.find(facts) is not None:
                yield None
                return
            with new_folder(self.folder(facts)) as folder:
                self._lend_timings(facts, folder)
                yield folder
                if not any(folder.rglob("*.engine")):
                    raise ProviderError(
                        "TensorRT built no engine for this network: it takes none of its operators; use --provider cuda"
                    )
                self._keep_timings(facts, folder)
                write_text(folder / MARK, facts.text())
            self.folder(facts).chmod(0o700)

    def prune(self, facts: EngineFacts, now_s: float | None = None) -> tuple[Path, ...]:
        """Remove the engines that can never be used again or were not for long; returns their folders.

        Args:
            facts: of engines just built; those of other libraries or another driver on the same GPU are out of date.
            now_s: seconds since 1970.
        """
        now_s = time.time() if now_s is None else now_s
        removed = []
        for mark in sorted(self.root.glob(f"*/{MARK}")):
            if mark.parent != self.folder(facts) and _out_of_date(mark, facts, now_s):
                shutil.rmtree(mark.parent, ignore_errors=True)
                mark.parent.with_name(f"{mark.parent.name}.lock").unlink(missing_ok=True)
                removed.append(mark.parent)
        for aside in self.root.glob(".*"):  # of builds that were killed
            with contextlib.suppress(OSError):
                if now_s - aside.stat().st_mtime > _DAY_S:
                    shutil.rmtree(aside)
                    removed.append(aside)
        return tuple(removed)

    def _refuse_strangers(self, folder: Path) -> None:
        for path in (folder, *sorted(folder.rglob("*"))):
            if reason := writable_by_others(path):
                raise ProviderError(
                    f"others can write to {self.root}, and an engine is a program: {reason}; then remove {folder}, and "
                    "build the engines again with: edgeface bundle warm BUNDLE"
                )

    def _timings(self, facts: EngineFacts) -> Path:
        return self.root / f"timings-{sha256(facts.environment().encode())[:32]}"

    def _lend_timings(self, facts: EngineFacts, folder: Path) -> None:
        """Copy what earlier builds measured, which shortens this one."""
        for path in self._timings(facts).glob("*.timing"):
            shutil.copyfile(path, folder / path.name)

    def _keep_timings(self, facts: EngineFacts, folder: Path) -> None:
        for path in folder.glob("*.timing"):
            write_bytes(self._timings(facts) / path.name, path.read_bytes())


def contents(folder: Path) -> dict[str, int]:
    """Return when each engine in a folder was last written, in nanoseconds: if it changes, TensorRT built it again."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.engine")}


def _out_of_date(mark: Path, facts: EngineFacts, now_s: float) -> bool:
    try:
        unused_s = now_s - mark.stat().st_mtime
        known: dict[str, Any] = json.loads(mark.read_text(encoding="utf-8"))
        gpu = known["gpu"]
        same_gpu = (gpu["name"], gpu["capability"]) == (facts.gpu.name, facts.gpu.capability)
        newer = (known["onnxruntime"], known["tensorrt"], gpu["driver"]) != (
            facts.onnxruntime,
            facts.tensorrt,
            facts.gpu.driver,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return unused_s > UNUSED_DAYS * _DAY_S or (same_gpu and newer)


@contextlib.contextmanager
def _locked(file: Any) -> Iterator[None]:
    """Hold a lock on an open file; the system gives it back even if the process dies."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        try:
            yield
        finally:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
