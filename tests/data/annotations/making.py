"""Small exports of every format, written here by hand."""

import io
import json
import zipfile

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 30, 40
ORIENTATION = 0x0112


def picture(seed=0, height=HEIGHT, width=WIDTH):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def box(left, top, right, bottom, value=1):
    """The mask of a box, uint8 [HEIGHT, WIDTH]."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = value
    return mask


def corners(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def png(values):
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write(folder, files):
    """Writes files (bytes, pictures, mask arrays or JSON documents) by their names."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, (Image.Image, np.ndarray)):
            image = content if isinstance(content, Image.Image) else None
            (image or Image.fromarray(content)).save(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            path.write_text(json.dumps(content))
    return folder


def masks(read):
    return {p.name: p.mask for p in read.pictures}


def compress(lengths):
    """COCO's compressed run lengths, from the description of the format."""
    text = ""
    for i, length in enumerate(lengths):
        value = length - lengths[i - 2] if i > 2 else length
        while True:
            code, value = value & 31, value >> 5
            more = value != (-1 if code & 16 else 0)
            text += chr(48 + (code | 32 * more))
            if not more:
                break
    return text


def run_lengths(mask):
    flat = mask.T.reshape(-1) > 0
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()


def pack_brush(alpha, sizes=(2, 3, 7, 15)):
    """Label Studio's brush: bits of an RGBA image, from the format's description."""
    values = np.zeros((*alpha.shape, 4), np.uint8)
    values[..., 3] = alpha
    values[alpha > 0, :3] = (200, 100, 50)
    values = values.reshape(-1).tolist()
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{s:04b}" for s in sizes)
    i = 0
    while i < len(values):
        j = i
        while j < len(values) and values[j] == values[i]:
            j += 1
        literal = j - i < 3
        if literal:
            j = min(i + 5, len(values))
        length = min(j - i, 2 ** (sizes[3] + 1))
        size = next(n for n, s in enumerate(sizes) if length <= 2 ** (s + 1))
        bits += f"{0 if literal else 1}{size:02b}{length - 1:0{sizes[size] + 1}b}"
        bits += "".join(
            f"{v:08b}"
            for v in (values[i : i + length] if literal else values[i : i + 1])
        )
        i += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]


def labelme(shapes, name="a.png", **fields):
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **fields,
    }


def shape(label, points, kind="polygon", **fields):
    return {"label": label, "points": points, "shape_type": kind, **fields}


def coco(**fields):
    polygons = [sum(corners(2, 3, 10, 12), []), sum(corners(20, 3, 25, 12), [])]
    lengths = run_lengths(box(5, 5, 15, 15))
    size = [HEIGHT, WIDTH]
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": polygons},
        {
            "id": 2,
            "image_id": 7,
            "category_id": 1,
            "segmentation": {"size": size, "counts": lengths},
            "iscrowd": 1,
        },
        {
            "id": 3,
            "image_id": 9,
            "category_id": 3,
            "segmentation": {"size": size, "counts": compress(lengths)},
        },
        {"id": 4, "image_id": 9, "category_id": 1, "segmentation": [], "bbox": [0] * 4},
    ]
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "deep/b.png", "height": HEIGHT, "width": WIDTH},
            {"id": 8, "file_name": "c.png", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": annotations,
        "categories": [
            {"id": 3, "name": "dog"},
            {"id": 1, "name": "cat"},
            {"id": 5, "name": "cow"},
        ],
        **fields,
    }


def coco_folder(folder, document):
    files = {"images/default/a.png": picture(0), "images/default/c.png": picture(2)}
    files |= {"images/other/b.png": picture(3), "images/deep/b.png": picture(1)}
    return write(folder, {"annotations/instances.json": document, **files})


def without(document, key, **changes):
    return {**document, key: [{**document[key][0], **changes}, *document[key][1:]]}


LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:10,20,30::\n"
LABELMAP += "big dog:200,0,0::\nignored:224,224,192::\n"


def cvat(**files):
    colors = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colors[3:9, 4:12] = (200, 0, 0)
    colors[10:20, 4:12] = (10, 20, 30)
    colors[0] = (224, 224, 192)
    return {
        "labelmap.txt": LABELMAP,
        "ImageSets/Segmentation/default.txt": "a\nsub/b\nempty\n",
        "SegmentationClass/a.png": colors,
        "SegmentationClass/sub/b.png": colors[:, ::-1],
        "SegmentationObject/a.png": colors,
        "JPEGImages/a.png": picture(0),
        "JPEGImages/sub/b.png": picture(1),
        "JPEGImages/empty.png": picture(2),
        **files,
    }


def region(kind, value, **fields):
    return {
        "id": "r1",
        "type": kind,
        "value": value,
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        **fields,
    }


def task(results, image="/data/upload/3/0a1b2c3d-my_cup.png", **fields):
    annotations = [{"id": 1, "was_cancelled": False, "result": results}]
    return {"id": 5, "data": {"image": image}, "annotations": annotations, **fields}


def archive(path, files, folder=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            if isinstance(content, (Image.Image, np.ndarray)):
                content = png(content)
            elif not isinstance(content, (bytes, str)):
                content = json.dumps(content)
            zipped.writestr(folder + name, content)
    return path
