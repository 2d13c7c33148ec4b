"""Run-length encoded masks of Label Studio's brush."""

import numpy as np

_BYTE = 8


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
