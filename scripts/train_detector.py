"""Train the face detector that edgeface carries, and write it as ONNX.

python scripts/train_detector.py --data DIR --out runs/detector --onnx runtime/bundles/detector.onnx
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from edgeface.export.cleaning import serialize
from edgeface.export.detector import export_detector
from edgeface.files import write_bytes
from edgeface.training.detection.loop import train_detector
from edgeface.training.detection.run import configure, load_detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of detect.jsonl and detect-*.tar")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--start", type=Path, help="run folder of a trained detector to begin with")
    parser.add_argument("--onnx", type=Path, help="write the trained detector here")
    parser.add_argument(
        "--min-score", type=float, help="score to advise; else the one with 0.05 false positives a picture"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as steps=1000")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--export-only", action="store_true", help="take the weights that are in --out")
    arguments = parser.parse_args()
    if not arguments.export_only:
        config = configure(arguments.data, arguments.out, arguments.set, arguments.start)
        train_detector(config, lambda progress: print(asdict(progress), flush=True), resume=arguments.resume)
    network, info = load_detector(arguments.out)
    print(info)
    if arguments.onnx:
        min_score = arguments.min_score or (info.scores.min_score if info.scores else 0.5)
        model = export_detector(network, min_score=min_score, max_face=info.max_face)
        write_bytes(arguments.onnx, serialize(model))


if __name__ == "__main__":
    main()
