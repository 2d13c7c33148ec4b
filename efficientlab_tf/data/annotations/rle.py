"""Run-length encoded masks: COCO's two kinds, and Label Studio's brush."""

import numpy as np

_BYTE = 8


def coco_mask(encoded: dict) -> np.ndarray:
    """Decodes COCO's run lengths, a list or compressed into a string.

    Runs of 0 and 1 take turns, 0 first, down the columns from left to right. In a
    string each length is written in groups of five bits, low ones first, each in one
    character from "0" on (48) whose sixth bit says that more follow; the last
    group's fifth bit is the sign. From the fourth length on the difference from the
    length two before is written. (The format of the COCO API's maskApi.)

    Args:
      encoded: "counts", and "size": height and width in pixels.

    Returns:
      bool [height, width].

    Raises:
      ValueError: damaged.
      KeyError, TypeError: not such a dictionary.
    """
    height, width = encoded["size"]
    counts = encoded["counts"]
    if isinstance(counts, str):
        counts = _uncompressed(counts)
    lengths = np.asarray(counts)
    whole = lengths.ndim == 1 and lengths.dtype.kind == "i"
    if not whole or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths that do not make {width}x{height} pixels")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(width, height).T


def _uncompressed(text: str) -> list[int]:
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError("compressed run lengths with a stray character")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        if len(lengths) > 2:
            value += lengths[-2]
        lengths.append(value)
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths that break off")
    return lengths


def brush_mask(codes: object, height: int, width: int) -> np.ndarray:
    """Decodes a brush stroke of Label Studio.

    The bytes are a stream of bits, high ones first (the format of thi.ng/rle-pack):
    the number of values in 32 bits; the size of a value less one in 5; four sizes of
    run lengths less one in 4 each. Then, until all values are there: one bit, 1 for a
    value that repeats and 0 for a run of different ones; two bits that choose one of
    the four sizes; the run's length less one in so many bits; the value, or the
    values. The values are those of an RGBA image, row by row, and the mask is its
    alpha channel.

    Args:
      codes: the bytes, as numbers.
      height: of the image, in pixels.
      width: of the image, in pixels.

    Returns:
      bool [height, width], true where alpha is at least half.

    Raises:
      ValueError: damaged, or of another size.
    """
    data = np.asarray(codes)
    if data.ndim != 1 or data.dtype.kind != "i" or data.min(initial=0) < 0:
        raise ValueError("brush strokes that are not a list of bytes")
    if data.max(initial=0) > 255:
        raise ValueError("brush strokes with a number above 255")
    stream = _Bits(np.unpackbits(data.astype(np.uint8)))
    count = stream.number(32)
    if count != height * width * 4:
        raise ValueError(
            f"brush strokes for {count} values, expected {width}x{height}x4"
        )
    bits = stream.number(5) + 1
    if bits != _BYTE:
        raise ValueError(f"brush strokes of {bits} bits a value, expected 8")
    sizes = [stream.number(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        repeats = stream.number(1)
        length = stream.number(sizes[stream.number(2)]) + 1
        if repeats:
            values[done : done + length] = stream.number(_BYTE)
        else:
            run = stream.bytes(min(length, count - done))
            values[done : done + len(run)] = run
        done += length
    return values.reshape(height, width, 4)[..., 3] >= 128


class _Bits:
    """Reads numbers off an array of bits."""

    def __init__(self, bits: np.ndarray):
        self._bits = bits
        self._place = 0

    def _next(self, count: int) -> np.ndarray:
        bits = self._bits[self._place : self._place + count]
        if len(bits) < count:
            raise ValueError("brush strokes that break off")
        self._place += count
        return bits

    def number(self, size: int) -> int:
        value = 0
        for bit in self._next(size).tolist():
            value = value << 1 | bit
        return value

    def bytes(self, count: int) -> np.ndarray:
        return np.packbits(self._next(count * _BYTE))
