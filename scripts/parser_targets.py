"""What edgeface parses itself: for each format a few sound files, and the code that reads all of them."""

import io
import json
import pickle
import shutil
import sqlite3
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import EdgefaceError
from edgeface.files import sha256


@dataclass(frozen=True)
class Target:
    """A format: `seeds` writes files into an empty folder, `read` reads what lies there, `faults` are changed.

    `mend` makes a changed file fit again what guards it, such as a hash, so that more than the guard is tried.
    """

    name: str
    seeds: Callable[[Path], None]
    read: Callable[[Path], object]
    files: tuple[str, ...]
    mend: Callable[[Path], object] | None = None


def picture(suffix: str = ".png", side: int = 112) -> bytes:
    smooth = np.add.outer(np.arange(side), np.arange(side)).astype(np.uint8)
    return bytes(cv2.imencode(suffix, np.stack([smooth, smooth.T, smooth // 2], -1))[1])


def network() -> bytes:
    """A small network with one of most that a file can hold."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c", "low"], ["r"]),
        helper.make_node("Shape", ["r"], ["s"], start=0, end=1),
        helper.make_node("Concat", ["s", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["r", "shape"], ["y"]),
    ]
    arrays = {"w": np.ones((4, 3, 3, 3), np.float32), "b": np.zeros(4, np.float32), "low": np.float32(0)}
    arrays["rest"] = np.array([-1], np.int64)
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    weights.append(helper.make_tensor("typed", onnx.TensorProto.FLOAT, [2], [1.0, 2.0]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 256])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model.metadata_props.add(key="k", value="v")
    return bytes(model.SerializeToString())


# Bundles


def _seed_bundle(folder: Path) -> None:
    from edgeface.runtime.bundle import SHIPPED

    source = Path(SHIPPED["default-edge"])
    manifest = json.loads((source / "manifest.json").read_text())
    (folder / "b").mkdir()
    for name in manifest["files"]:
        data = network() if name.endswith(".onnx") else (source / name).read_bytes()
        if name not in ("scores.json", "cohort.bin") and not name.endswith(".onnx"):
            data = data[:200]
        (folder / "b" / name).write_bytes(data)
    (folder / "b" / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    _hash_bundle(folder)


def _hash_bundle(folder: Path) -> None:
    path = folder / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, entry in manifest["files"].items():
        data = (folder / "b" / name).read_bytes()
        entry["bytes"], entry["sha256"] = len(data), sha256(data)
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def _read_bundle(folder: Path) -> None:
    from edgeface.runtime.bundle import open_bundle

    bundle = open_bundle(folder / "b")
    bundle.unlisted()
    for precision in bundle.manifest.precisions:
        bundle.manifest.threshold_for(precision)
    bundle.verify()


def _seed_zip(folder: Path) -> None:
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.packing import pack_bundle

    _seed_bundle(folder)
    pack_bundle(open_bundle(folder / "b"), folder / "b.zip")
    with zipfile.ZipFile(folder / "packed.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted((folder / "b").iterdir()):
            packed.write(path, path.name)


def _read_zip(folder: Path) -> None:
    from edgeface.runtime.bundle import open_bundle

    refusals = []
    for name in ("b.zip", "packed.zip"):
        try:
            open_bundle(folder / name).verify()
        except EdgefaceError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _seed_keys(folder: Path) -> None:
    from edgeface.runtime.gallery.key import make_key as make_gallery_key
    from edgeface.runtime.signature import sign_manifest
    from edgeface.runtime.signing import make_key, read_private_key

    make_key(folder / "k")
    make_key(folder / "locked", passphrase="word")
    make_gallery_key(str(folder / "g.key"))
    (folder / "m.sig").write_bytes(sign_manifest(b"manifest", read_private_key(folder / "k")).to_json())


def _each(*readers: Callable[[], object]) -> None:
    """Try all; raise the first refusal at the end."""
    refusals = []
    for reader in readers:
        try:
            reader()
        except EdgefaceError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _read_keys(folder: Path) -> None:
    from edgeface.runtime.gallery.key import read_key
    from edgeface.runtime.signature import check_signature, read_public_key
    from edgeface.runtime.signing import read_private_key

    _each(
        lambda: read_public_key(folder / "k.pub"),
        lambda: read_private_key(folder / "k"),
        lambda: read_private_key(folder / "locked", "word"),
        lambda: read_key(folder / "g.key"),
        lambda: check_signature(b"manifest", (folder / "m.sig").read_bytes(), (), "b"),
    )


# Galleries and what waits to be sent


def _seed_gallery(folder: Path, encrypted: bool) -> None:
    from edgeface.runtime.gallery.exchange import export_gallery
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.runtime.gallery.key import make_key, read_key

    key = None
    if encrypted:
        make_key(str(folder / "g.key"))
        key = read_key(folder / "g.key")
    with Gallery(folder / "g.db", "space", 8, create=True, key=key) as gallery:
        for index, name in enumerate(("alice", "bob", "bob")):
            gallery.add(name, np.eye(8, dtype=np.float32)[index], 0.5, "camera")
        gallery.rename("alice", "carol")
        export_gallery(gallery, folder / "g.export", key)
    for left in folder.glob("g.db-*"):
        left.unlink()


def _gallery_key(folder: Path) -> Any:
    from edgeface.runtime.gallery.key import read_key

    return read_key(folder / "g.key") if (folder / "g.key").exists() else None


def _read_gallery(folder: Path) -> None:
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.runtime.gallery.reader import is_encrypted

    is_encrypted(folder / "g.db")
    with Gallery(folder / "g.db", "space", 8, key=_gallery_key(folder)) as gallery:
        _each(gallery.contents, gallery.list, gallery.templates, gallery.precisions, gallery.log)
        _each(lambda: gallery.details("carol"), lambda: gallery.add("dora", np.eye(8, dtype=np.float32)[5]))
        _each(lambda: gallery.rename("bob", "bert"), lambda: gallery.merge("bert", "carol"))
        _each(lambda: gallery.remove("carol", forget=True))


def _read_export(folder: Path) -> None:
    from edgeface.runtime.gallery.export_reader import read_export

    read_export(folder / "g.export", _gallery_key(folder))


def _seed_outbox(folder: Path) -> None:
    from edgeface.runtime.sinks.outbox import Outbox

    outbox = Outbox(folder / "o.db")
    for index in range(4):
        outbox.add("web", f"event{index}", json.dumps({"name": "alice"}))
    outbox.close()


def _read_outbox(folder: Path) -> None:
    from edgeface.runtime.sinks.outbox import Outbox

    outbox = Outbox(folder / "o.db")
    try:
        outbox.count("web")
        outbox.revive("web")
        for _ in range(6):
            if (letter := outbox.first("web")) is not None:
                outbox.done("web", letter)
        outbox.add("web", "event", "{}")
        outbox.catch_up()
    finally:
        outbox.close()


# Faces


def _look_at(faces: Any) -> None:
    _each(*(lambda index=index: faces.read(index) for index in range(min(4, len(faces)))))
    _each(faces.checked)


def _seed_record(folder: Path) -> None:
    parts, places = [], []
    for key in range(5):
        head = struct.pack("<IfQQ", 2 if not key else 0, 0.0 if not key else float(key // 2), key, 0)
        data = head + (struct.pack("<ff", 5.0, 7.0) if not key else picture(".jpg"))
        places.append(f"{key}\t{sum(map(len, parts))}\n")
        parts.append(struct.pack("<II", 0xCED7230A, len(data)) + data + b"\0" * (-len(data) % 4))
    (folder / "train.rec").write_bytes(b"".join(parts))
    (folder / "train.idx").write_text("".join(places))
    (folder / "plain.rec").write_bytes(b"".join(parts))


def _read_record(folder: Path) -> None:
    from edgeface.data import open_faces

    _each(lambda: _look_at(open_faces(folder / "train.rec")), lambda: _look_at(open_faces(folder / "plain.rec")))


def _seed_bin(folder: Path) -> None:
    pictures = [np.frombuffer(picture(".jpg"), np.uint8) for _ in range(4)]
    for protocol in (2, 4):
        (folder / f"{protocol}.bin").write_bytes(
            pickle.dumps(([p.tobytes() for p in pictures], [True, False]), protocol)
        )


def _read_bin(folder: Path) -> None:
    from edgeface.data import open_bin

    _each(*(lambda path=path: _look_at(open_bin(path)[0]) for path in sorted(folder.glob("*.bin"))))


def _seed_tar(folder: Path) -> None:
    rows = ["key,identity,split"]
    for name, style in (("plain", tarfile.USTAR_FORMAT), ("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
        (folder / name).mkdir()
        with tarfile.open(folder / name / "a.tar", "w", format=style) as tar:
            for index in range(4):
                for suffix, data in ((".png", picture()), (".cls", b"3"), (".json", b'{"identity": "ann"}')):
                    info = tarfile.TarInfo(f"ann{'ä' * (60 if index == 1 else 1)}/{index:04d}{suffix}")
                    info.size, info.mtime = len(data), 1.5 if style == tarfile.PAX_FORMAT else 1
                    tar.addfile(info, io.BytesIO(data))
            rows.append(f"annä/{index:04d},ann,train")
    (folder / "gnu" / "labels.csv").write_text("\n".join(dict.fromkeys(rows)) + "\n")


def _read_tar(folder: Path) -> None:
    from edgeface.data import open_faces

    _each(*(lambda name=name: _look_at(open_faces(folder / name)) for name in ("plain", "pax", "gnu")))


def _seed_tables(folder: Path) -> None:
    for person in ("ann", "bob"):
        (folder / person).mkdir()
        for index in range(1, 4):
            (folder / person / f"{person}_{index:04d}.png").write_bytes(picture())
    names = [f"{p}/{p}_{i:04d}" for p in ("ann", "bob") for i in (1, 2, 3)]
    rows = {
        "faces.csv": ["path,identity,split", *(f"{name}.png,{name[:3]},train" for name in names)],
        "faces.lst": [f"{index}\t{index % 2}.0\t{name}.png" for index, name in enumerate(names)],
        "other.lst": [f"1\t{name}.png\t{index % 2}" for index, name in enumerate(names)],
        "groups.csv": ["key,sex,age", *(f"{name},f,{index}0" for index, name in enumerate(names))],
        "templates.csv": [
            "template,key,media",
            *(f"{name[:3]}{index // 2},{name},1" for index, name in enumerate(names)),
        ],
        "pairs.csv": ["first,second,same", "ann0,ann1,1", "bob1,bob2,1"]
        + [f"ann{a},bob{b},0" for a in (0, 1) for b in (1, 2)],
        "identify.csv": [
            "key,identity,role",
            *(f"{name},{name[:3]},{'gallery' if name[-1] == '1' else 'probe'}" for name in names),
        ],
        "pairs.txt": ["2 1", "ann 1 2", "ann 1 bob 1", "bob 1 2", "ann 2 bob 2"],
        "metrics.jsonl": ['{"step": 1, "loss": 0.5}', '{"step": 2, "loss": 0.25}'],
        "config.toml": ["[data]", 'path = "faces"', "[optimizer]", "lr = 0.1", "[run]", "epochs = 3", "seed = 1"],
        "results.jsonl": ['{"key": "a", "kind": "train", "value": null, "error": ""}'],
    }
    for name, lines in rows.items():
        (folder / name).write_text("\n".join(lines) + "\n")


def _read_tables(folder: Path) -> None:
    from edgeface.comparison.results import ResultFile
    from edgeface.data import open_faces, read_lfw_pairs
    from edgeface.evaluation.groups import read_labels
    from edgeface.evaluation.identification import read_search
    from edgeface.evaluation.items import face_items
    from edgeface.evaluation.templates import read_template_pairs, read_templates
    from edgeface.training.config import load_config
    from edgeface.training.journal import read_journal

    faces = open_faces(folder)
    _each(
        *(lambda name=name: _look_at(open_faces(folder / name)) for name in ("faces.csv", "faces.lst", "other.lst")),
        lambda: read_labels(folder / "groups.csv", face_items(faces)),
        lambda: read_template_pairs(folder / "pairs.csv", read_templates(folder / "templates.csv", faces)),
        lambda: read_search(folder / "identify.csv", face_items(faces)),
        lambda: read_lfw_pairs(folder / "pairs.txt", faces),
        lambda: read_journal(folder / "metrics.jsonl"),
        lambda: load_config(folder / "config.toml"),
        lambda: ResultFile(folder, resume=True).measured(["a"]),
    )


def _seed_detection(folder: Path) -> None:
    face = {"box": [1, 2, 5, 6], "score": 0.9, "landmarks": [[1, 2], [3, 2], [2, 3], [1, 4], [3, 4]]}
    lines = [{"file": f"{i}.jpg", "split": "train", "faces": [face] * i} for i in range(3)]
    (folder / "detect.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with tarfile.open(folder / "detect-train.tar", "w") as tar:
        for index in range(3):
            info = tarfile.TarInfo(f"{index}.jpg")
            data = picture(".jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _read_detection(folder: Path) -> None:
    from edgeface.data.detection import open_detection_set

    found = open_detection_set(folder, "train")
    found.census  # noqa: B018
    _each(*(lambda index=index: found.read(index) for index in range(len(found.names))))


def _seed_arrays(folder: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(6, 4))
    np.savez(folder / "transform.npz", mean=numbers[0], basis=np.eye(4)[:, :3], scale=np.ones(3), share=0.8)
    keys = np.array([f"{p}/{p}_{i:04d}" for p in ("ann", "bob") for i in (1, 2, 3)])
    np.savez_compressed(folder / "taught.npz", key=keys, embedding=numbers.astype(np.float32))
    np.save(folder / "affine.npy", np.array([[1.0, 0, 0], [0, 1, 0]]))
    _seed_tables(folder)


def _read_arrays(folder: Path) -> None:
    from edgeface.data import open_faces
    from edgeface.data.teacher import read_targets, read_transform_arrays
    from edgeface.export.resampling import Affine

    faces = open_faces(folder)
    _each(
        lambda: read_transform_arrays(folder / "transform.npz"),
        lambda: read_targets(folder / "taught.npz", faces, folder / "transform.npz"),
        lambda: Affine.read(folder / "affine.npy"),
    )


def _seed_pictures(folder: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "webp", "tiff"):
        (folder / f"a.{suffix}").write_bytes(picture(f".{suffix}", 16))


def _read_pictures(folder: Path) -> None:
    from edgeface.images import read_image

    _each(*(lambda path=path: read_image(path) for path in sorted(folder.iterdir())))


# Checkpoints and caches


def _seed_checkpoint(folder: Path) -> None:
    from edgeface.models import build_model
    from edgeface.training.checkpoint import CheckpointInfo, save_checkpoint

    _save_checkpoint(folder, save_checkpoint, CheckpointInfo, build_model)


def _save_checkpoint(folder: Path, save: Any, info: Any, build: Any) -> None:
    from dataclasses import MISSING, fields

    values: dict[str, Any] = {"model": "mobilefacenet", "embedding_size": 64}
    kinds = {"int": 1, "float": 0.5, "str": "x", "bool": False}
    for field in fields(info):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            kind = str(field.type).split("[")[0].split(" ")[0]
            values[field.name] = kinds.get(kind, None if "None" in str(field.type) else {})
    model = build("mobilefacenet", 64)
    save(folder / "c", info(**values), model, {})


def _read_checkpoint(folder: Path) -> None:
    from edgeface.training.checkpoint import load_backbone

    load_backbone(folder / "c")


def _seed_caches(folder: Path) -> None:
    from edgeface.runtime import speed
    from edgeface.runtime.bundle import open_bundle

    path = speed.remember(open_bundle("default-edge").manifest, {"int8": 1.5, "fp32": 2.0}, {"int8": 4})
    (folder / "speed.json").write_bytes(path.read_bytes())
    (folder / "facts.json").write_text(
        json.dumps({"gpu": {"name": "a", "capability": "8", "driver": "1"}, "onnxruntime": "1", "tensorrt": "1"})
    )


def _read_caches(folder: Path) -> None:
    from edgeface.runtime import speed
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.providers.caches import list_caches
    from edgeface.runtime.providers.engines import EngineFacts, EngineStore
    from edgeface.runtime.providers.gpu import Gpu

    manifest = open_bundle("default-edge").manifest
    path = speed.remember(manifest, {"int8": 1.5})
    path.write_bytes((folder / "speed.json").read_bytes())
    speed.recall(manifest)
    speed.fastest(manifest)
    speed.fastest_batch(manifest, "int8")
    store = EngineStore(folder / "engines")
    shutil.rmtree(store.root, ignore_errors=True)
    facts = EngineFacts("0" * 64, "1", "1", Gpu("a", "8", "1"), "fp16", {}, None)
    for place in (store.folder(facts), folder / "engines" / "old"):
        place.mkdir(parents=True)
        (place / "facts.json").write_bytes((folder / "facts.json").read_bytes())
    store.find(facts)
    store.prune(facts)
    list_caches()


def _gallery_target(name: str, encrypted: bool) -> list[Target]:
    return [
        Target(name, lambda folder: _seed_gallery(folder, encrypted), _read_gallery, ("g.db",)),
        Target(f"{name} export", lambda folder: _seed_gallery(folder, encrypted), _read_export, ("g.export",)),
    ]


TARGETS: tuple[Target, ...] = (
    Target(
        "onnx",
        lambda folder: (folder / "n.onnx").write_bytes(network()) and None,
        lambda folder: _onnx(folder),
        ("n.onnx",),
    ),
    Target("bundle", _seed_bundle, _read_bundle, ("b/manifest.json",)),
    Target("scores", _seed_bundle, _read_bundle, ("b/scores.json",), _hash_bundle),
    Target("bundle zip", _seed_zip, _read_zip, ("b.zip", "packed.zip")),
    Target("keys", _seed_keys, _read_keys, ("k.pub", "k", "locked", "g.key", "m.sig")),
    *_gallery_target("gallery", False),
    *_gallery_target("sealed gallery", True),
    Target("outbox", _seed_outbox, _read_outbox, ("o.db",)),
    Target("record", _seed_record, _read_record, ("train.rec", "train.idx", "plain.rec")),
    Target("bin", _seed_bin, _read_bin, ("2.bin", "4.bin")),
    Target("tar", _seed_tar, _read_tar, ("plain/a.tar", "pax/a.tar", "gnu/a.tar", "gnu/labels.csv")),
    Target(
        "tables",
        _seed_tables,
        _read_tables,
        (
            *("faces.csv", "faces.lst", "other.lst", "groups.csv", "templates.csv", "pairs.csv", "identify.csv"),
            *("pairs.txt", "metrics.jsonl", "config.toml", "results.jsonl"),
        ),
    ),
    Target("detection", _seed_detection, _read_detection, ("detect.jsonl", "detect-train.tar")),
    Target("arrays", _seed_arrays, _read_arrays, ("transform.npz", "taught.npz", "affine.npy")),
    Target("pictures", _seed_pictures, _read_pictures, tuple(f"a.{s}" for s in ("png", "jpg", "bmp", "webp", "tiff"))),
    Target("checkpoint", _seed_checkpoint, _read_checkpoint, ("c/state.json", "c/backbone.safetensors")),
    Target("caches", _seed_caches, _read_caches, ("speed.json", "facts.json")),
)


def _onnx(folder: Path) -> None:
    from edgeface.runtime.inspecting.inspection import inspect_model

    inspect_model((folder / "n.onnx").read_bytes())


def change_cell(path: Path, value: object, number: int) -> None:
    """Put a value into one cell of a SQLite file, chosen by a number."""
    with sqlite3.connect(path) as database:
        cells = [
            (table, column, row)
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for _, column, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall()
            for (row,) in database.execute(f'SELECT rowid FROM "{table}"').fetchall()
        ]
        table, column, row = cells[number % len(cells)]
        database.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (value, row))
    database.close()
