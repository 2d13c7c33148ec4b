"""Damaged and hostile inputs for every reader of files: small sound ones, changed.

    generator = random.Random(0)
    readers = {name: make(folder) for name, make in READERS.items()}
    readers["masks"](generator)   # writes an input, reads it

A reader returns or raises `UserError`; what else happens is a fault.
"""

import base64
import contextlib
import copy
import dataclasses
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.picture import read_layer, read_picture
from efficientlab_tf.checkpoint.files import load_checkpoint, save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.checkpoint.tuned import Tuned
from efficientlab_tf.config import ModelConfig
from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.data.image_store import ImageStore
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.mask_readings import MASK_VALUES
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.data.verify import masked_crc32c, verify_dataset
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import find_queries, read_query
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.video.annotation import read_annotation
from efficientlab_tf.video.frames import Frames
from tests.data.annotations.making import (
    HEIGHT,
    WIDTH,
    archive,
    box,
    coco,
    corners,
    cvat,
    labelme,
    pack_brush,
    picture,
    png,
    region,
    shape,
    task,
    write,
)
from tests.data.tiny_dataset import tiny_dataset
from tests.models.narrow import forget_layers
from tests.models.tiny import tiny_network

Reader = Callable[[random.Random], None]

ODD = (
    *(None, True, False, -1, 0, 1, 2, 254, 255, 256, 10**6, 2**31, 2**62, 2**63, 2**64),
    *(10**30, 10**400, -(2**63), 0.5, 31.9999999, 1e308, float("nan"), float("inf")),
    *(-0.0, 5e-324, "", "x", "1", "\0", "../../etc/passwd", "/dev/zero", "a" * 1000),
    *("\ud800", "background", "ignored", "cat", [], {}, [[]], [None], {"a": 1}, [1, 2]),
    [[1, 2], [3, 4], [5, 6]],
)


def damaged(data: bytes, generator: random.Random) -> bytes:
    """Some bytes with others in some places, or a part cut, doubled or put in."""
    changed = bytearray(data)
    how = generator.random()
    place = generator.randrange(len(changed))
    if how < 0.5:
        for _ in range(generator.randint(1, 5)):
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    elif how < 0.65:
        for _ in range(generator.randint(1, 4)):
            odd = generator.choice((0, 1, 127, 128, 255))
            changed[generator.randrange(len(changed))] = odd
    elif how < 0.8:
        del changed[place:]
    elif how < 0.9:
        changed[place:place] = changed[place : place + generator.randint(1, 300)]
    else:
        changed[place:place] = generator.randbytes(generator.randint(1, 16))
    return bytes(changed)


def _places(value, place=()):
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else ()
    for key, child in enumerate(value[:60]) if isinstance(value, list) else items:
        yield from _places(child, (*place, key))


def _at(document, place):
    for key in place:
        document = document[key]
    return document


def distorted(document, generator: random.Random) -> bytes:
    """JSON of a document with one to three values replaced, removed or multiplied."""
    document = copy.deepcopy(document)
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        *above, key = generator.choice(places)
        parent, how = _at(document, above), generator.random()
        if how < 0.65:
            parent[key] = copy.deepcopy(generator.choice(ODD))
        elif how < 0.8:
            del parent[key]
        elif how < 0.9 and isinstance(parent[key], int | float):
            # Of whole numbers past what floats hold the sign alone is of interest.
            factor = generator.choice((-1, 10, 1000, 2**40))
            with contextlib.suppress(OverflowError):
                parent[key] *= factor
        else:
            parent[key] = copy.deepcopy(_at(document, generator.choice(places)))
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _json(document, generator: random.Random) -> bytes:
    if generator.random() < 0.25:
        return damaged(json.dumps(document).encode(), generator)
    return distorted(document, generator)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _support(path: Path, **options) -> None:
    for labelled in read_support(path, size=(32, 32), **options).pictures:
        assert labelled.image.shape == (32, 32, 3) and labelled.image.dtype == np.uint8
        assert labelled.mask.shape == (32, 32) and labelled.mask.dtype == np.uint8


BRUSH = {"format": "rle", "rle": pack_brush(box(5, 5, 20, 20, 255))}
ELLIPSE = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 5}
RECTANGLE = {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": 5}
STENCIL = base64.b64encode(png(box(0, 0, 8, 8)[:9, :9])).decode()
EXPORTS = {
    "COCO": coco(),
    "LabelMe": labelme(
        [
            shape("cat", corners(2, 3, 9, 9)),
            shape("cat", [[5, 5], [8, 8]], "circle"),
            shape("dog", [[5, 5], [8, 8]], "rectangle"),
            shape("dog", [[5, 5], [13, 13]], "mask", mask=STENCIL),
        ],
        imageData=base64.b64encode(png(picture())).decode(),
    ),
    "Label Studio": [
        task(
            [
                region("brushlabels", {**BRUSH, "brushlabels": ["cat"]}),
                region(
                    "polygonlabels",
                    {"points": [[1, 1], [50, 2], [50, 50]], "polygonlabels": ["dog"]},
                ),
                region("ellipselabels", {**ELLIPSE, "ellipselabels": ["dog"]}),
                region("rectanglelabels", {**RECTANGLE, "rectanglelabels": ["cat"]}),
            ],
            "a.png",
        )
    ],
}
LAYERS = (
    '<annotations><image id="0" name="a.png" width="40" height="30"><polygon label="x" '
    'points="2,3;10,3;10,12" z_order="1"/><ellipse label="y" cx="9" cy="9" rx="4" '
    'ry="3"/><mask label="x" rle="3, 5, 7, 5" left="4" top="4" width="5" height="4"/>'
    "</image></annotations>"
)


def _export(document):
    def make(folder: Path) -> Reader:
        for name in ("a.png", "c.png", "deep/b.png"):
            write(folder, {name: picture()})

        def read(generator):
            (folder / "export.json").write_bytes(_json(document, generator))
            _support(folder / "export.json")

        return read

    return make


def _cvat(folder: Path) -> Reader:
    members = cvat()

    def read(generator):
        path, changed = folder / "x.zip", dict(members)
        name = generator.choice([*members, None])
        if name is not None:
            content = changed[name]
            content = content.encode() if isinstance(content, str) else png(content)
            changed[name] = damaged(content, generator)
        archive(path, changed)
        if name is None:
            path.write_bytes(damaged(path.read_bytes(), generator))
        _support(path)

    return read


def _cvat_xml(folder: Path) -> Reader:
    write(folder, {"a.png": picture()})

    def read(generator):
        (folder / "annotations.xml").write_bytes(damaged(LAYERS.encode(), generator))
        _support(folder / "annotations.xml")

    return read


def _mask_files() -> list[tuple[str, bytes]]:
    mask = box(5, 3, 20, 15, 255)
    cells = np.kron(np.arange(24).reshape(4, 6), np.ones((5, 5)))
    cells = np.pad(cells, ((0, 10), (0, 10))).astype(np.uint16)
    palette = Image.fromarray(mask // 255)
    palette.putpalette([value for i in range(256) for value in (i, 255 - i, i)])
    clear = Image.fromarray(np.dstack([mask] * 4))
    arrays = (mask, mask // 255, np.dstack([mask] * 3), cells, cells.astype(np.uint8))
    pngs = [*map(Image.fromarray, arrays), palette, clear]
    return [
        *((".png", png(image)) for image in pngs),
        (".tif", encoded(Image.fromarray(mask.astype(np.float32)), "TIFF")),
        (".tif", encoded(Image.fromarray(cells), "TIFF", compression="tiff_lzw")),
        (".gif", encoded(palette, "GIF")),
        (".bmp", encoded(Image.fromarray(mask), "BMP")),
        (".jpg", encoded(Image.fromarray(mask), "JPEG")),
    ]


def _masks(folder: Path) -> Reader:
    files = _mask_files()
    write(folder, {"images/a.jpg": picture(), "images/b.jpg": picture(1)})

    def read(generator):
        for old in folder.glob("masks/*"):
            old.unlink()
        suffix, data = generator.choice(files)
        write(folder, {f"masks/b{suffix}": data})
        write(folder, {f"masks/a{suffix}": damaged(data, generator)})
        kind = generator.choice(("auto", "auto", *MASK_VALUES))
        _support(folder, mask_values=kind)

    return read


def _picture_files() -> list[tuple[str, bytes]]:
    image, grey = picture(), picture().convert("L")
    pages = [picture(1), picture(2)]
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    single = Image.fromarray(np.asarray(grey).astype(np.float32))
    return [
        (".jpg", encoded(image, "JPEG")),
        (".jpg", encoded(image, "JPEG", progressive=True)),
        (".jpg", encoded(image.convert("CMYK"), "JPEG", exif=b"Exif\0\0MM\0*")),
        (".png", png(image)),
        (".png", png(deep)),
        (".png", png(image.convert("P"))),
        (".webp", encoded(image, "WEBP")),
        (".webp", encoded(image, "WEBP", lossless=True)),
        (".bmp", encoded(image, "BMP")),
        (".tif", encoded(image, "TIFF")),
        (".tif", encoded(single, "TIFF", compression="tiff_adobe_deflate")),
        (".tif", encoded(image, "TIFF", save_all=True, append_images=pages)),
        (".gif", encoded(image, "GIF", save_all=True, append_images=pages)),
        (".avif", encoded(image, "AVIF")),
        (".jp2", encoded(image, "JPEG2000")),
        (".ppm", encoded(image, "PPM")),
        (".pgm", b"P2 4 2 255 " + b"0 10 20 30 40 50 60 70 "),
    ]


def _queries(folder: Path) -> Reader:
    files = _picture_files()

    def read(generator):
        suffix, data = generator.choice(files)
        path = folder / f"a{suffix}"
        path.write_bytes(damaged(data, generator))
        pages = generator.choice(("first", "all"))
        for query in find_queries(path, "", pages)[0][:3]:
            try:
                image = read_query(query.path, query.page).picture
            except Refused as error:
                raise UserError(str(error)) from error
            assert image.mode in ("RGB", "L")

    return read


def _page(folder: Path) -> Reader:
    pictures, masks, limits = _picture_files(), _mask_files(), AppConfig()
    sound = read_picture("a.png", png(picture()), [(32, 32)], limits)

    def read(generator):
        if generator.random() < 0.5:
            data = damaged(generator.choice(pictures)[1], generator)
            read_picture("a", data, [(32, 32)], limits)
        else:
            data = damaged(generator.choice(masks)[1], generator)
            read_layer(sound, data, limits)

    return read


def _archives(folder: Path) -> Reader:
    sound = archive(
        folder / "sound.zip",
        {"images/a.png": picture(), "masks/a.png": box(5, 3, 20, 15, 255)},
    ).read_bytes()

    def read(generator):
        (folder / "x.zip").write_bytes(damaged(sound, generator))
        _support(folder / "x.zip")

    return read


def _models(folder: Path) -> Reader:
    path = folder / "model.keras"
    network = Network(tiny_network(32))
    save_keras(
        path, network, network.weights(), RunConfig(model=ModelConfig(image_size=32))
    )
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    tuned = "efficientlab_tf_tuned.json"
    members[tuned] = _tuned().to_json().encode()

    def read(generator):
        forget_layers()
        if generator.random() < 0.2:
            path.write_bytes(damaged(sound, generator))
        else:
            changed, name = dict(members), generator.choice(list(members))
            if name.endswith(".json"):
                changed[name] = _json(json.loads(members[name]), generator)
            else:
                changed[name] = damaged(members[name], generator)
            archive(path, changed)
        load_checkpoint(str(path))

    return read


def _metadata(folder: Path) -> Reader:
    sound = RunConfig().to_dict()

    def read(generator):
        (folder / "config.json").write_bytes(_json(sound, generator))
        RunConfig.load(folder)

    return read


def _tuned() -> Tuned:
    values = {"inner_learning_rate": 0.1, "inner_steps": 3}
    return Tuned(values, "abc", "d", "val", 2, 5, "support", 4, 0.5, 0.4)


def _tuned_values(folder: Path) -> Reader:
    sound = dataclasses.asdict(_tuned())
    return lambda generator: Tuned.from_json(_json(sound, generator), folder)


def _datasets(folder: Path) -> Reader:
    tiny_dataset(folder, {"a": 3, "b": 3}, {"train": ("a",), "val": ("b",), "test": ()})
    shard, manifest = folder / "a.tfrecord", folder / "dataset.json"
    records, document = shard.read_bytes(), json.loads(manifest.read_bytes())

    def read(generator):
        changed, listed = records, json.dumps(document).encode()
        how = generator.random()
        if how < 0.5:
            listed = _json(document, generator)
        elif how < 0.75:
            changed = damaged(records, generator)
        else:
            changed = _with_checksum(records, generator)
        shard.write_bytes(changed)
        manifest.write_bytes(listed)
        with contextlib.suppress(UserError):
            verify_dataset(folder)
        loaded = Manifest.load(folder)
        names = loaded.split("train")
        store = ImageStore(loaded, names, 32, generator.choice((10**8, 0)))
        for number, name in enumerate(names):
            count = min(3, loaded.classes[name].count)
            store.images(tf.constant(number), tf.range(count))

    return read


def _with_checksum(records: bytes, generator: random.Random) -> bytes:
    """Damages the first record of a shard, whose checksum then is right."""
    end = 12 + int.from_bytes(records[:8], "little")
    body = bytearray(records[12:end])
    for _ in range(generator.randint(1, 4)):
        body[generator.randrange(len(body))] ^= 1 << generator.randrange(8)
    checksum = masked_crc32c(bytes(body)).to_bytes(4, "little")
    return records[:12] + bytes(body) + checksum + records[end + 4 :]


def _points(folder: Path) -> Reader:
    write(folder, {f"frames/{i:05d}.png": picture(i) for i in range(3)})
    frames = Frames(folder / "frames")
    sound = {
        "points": [
            {"frame": 0, "x": 10, "y": 20, "label": 1},
            {"frame": "00001.png", "x": 1.5, "y": 2, "label": 0},
            {"frame": 2, "x": WIDTH - 1, "y": HEIGHT - 1, "label": 2},
        ]
    }

    def read(generator):
        path = folder / "points.json"
        path.write_bytes(_json(sound, generator))
        annotation = read_annotation(path, frames)
        annotation.masks((16, 16))
        annotation.point_masks()

    return read


READERS: dict[str, Callable[[Path], Reader]] = {
    **{name: _export(document) for name, document in EXPORTS.items()},
    "CVAT segmentation mask": _cvat,
    "CVAT for images": _cvat_xml,
    "archives": _archives,
    "masks": _masks,
    "queries": _queries,
    "page": _page,
    "models": _models,
    "metadata": _metadata,
    "tuned values": _tuned_values,
    "datasets": _datasets,
    "points": _points,
}
"""Makes each reader, given an empty folder of its own."""
