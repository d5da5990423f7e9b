"""Print how fast each network trains here, and how long it waits for faces: python scripts/bench_training.py."""

import tempfile
from pathlib import Path

import numpy as np

from edgeface.data import InMemoryFaces
from edgeface.models import MODELS
from edgeface.training import Status, TrainConfig, train


class Last:
    """Keeps the last status; the first ones hold the warm-up of threads and caches."""

    status: Status

    def update(self, status: Status) -> None:
        self.status = status


def main() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1024, 112, 112, 3), np.uint8)
    faces = InMemoryFaces(images, np.arange(1024) % 64)
    print(f"{'model':22} {'faces/s':>8} {'waiting':>8}")
    for name in MODELS:
        config = TrainConfig.from_dict(
            {
                "model": {"name": name},
                "run": {"epochs": 2, "batch_size": 64, "log_steps": 8, "val_pairs": 0},
                "data": {"val_identities": 0.0},
            }
        )
        last = Last()
        with tempfile.TemporaryDirectory() as folder:
            train(config, Path(folder) / "run", faces=faces, progress=last)
        print(f"{name:22} {last.status.faces_per_s:8.0f} {last.status.data_wait:8.1%}")


if __name__ == "__main__":
    main()
