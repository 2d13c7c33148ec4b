"""Run lengths along rows: of masks, and of Label Studio's brush."""

import numpy as np

from efficientlab_tf.data.drawing import check_size

_BYTE = 8
_CHANNELS, _ALPHA = 4, 3
_SIZES = (3, 4, 8, 16)
"""Bits of run lengths, as Label Studio's own converter chooses them."""


def run_lengths(marked: np.ndarray) -> np.ndarray:
    """Returns run lengths of 0 and 1 in turns, 0 first, along the rows of a mask.

    Args:
      marked: bool [H, W], of at least one pixel.

    Returns:
      int64 [n], whose sum is H * W; the first may be 0.
    """
    flat = marked.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = [0, *changes.tolist(), flat.size]
    return np.diff([0, *ends] if flat[0] else ends)


def pack_brush(marked: np.ndarray) -> list[int]:
    """Encodes a mask, bool [H, W], as a brush stroke: bytes for `brush_mask`.

    All four channels are 255 where it is marked, and 0 elsewhere.
    """
    count = marked.size * _CHANNELS
    bits = [f"{count:032b}{_BYTE - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for index, length in enumerate((run_lengths(marked) * _CHANNELS).tolist()):
        value = 255 * (index % 2)
        while length:
            part = min(length, 2 ** _SIZES[-1])
            which = next(i for i, size in enumerate(_SIZES) if part <= 2**size)
            bits.append(f"1{which:02b}{part - 1:0{_SIZES[which]}b}{value:08b}")
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def brush_mask(codes: object, height: object, width: object) -> np.ndarray:
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
    height, width = check_size(height, width)
    stream = _Bits(data.astype(np.uint8).tobytes())
    count = stream.number(32)
    if count != height * width * 4:
        raise ValueError(
            f"brush strokes for {count} values, expected {width}x{height}x4"
        )
    bits = stream.number(5) + 1
    if bits != _BYTE:
        raise ValueError(f"brush strokes of {bits} bits a value, expected 8")
    sizes = [stream.number(4) + 1 for _ in range(4)]
    alpha = np.zeros(height * width, np.uint8)
    done = 0
    while done < count:
        repeats = stream.number(1)
        length = stream.number(sizes[stream.number(2)]) + 1
        # Every fourth value is of the alpha channel.
        first = (done + _CHANNELS - 1 - _ALPHA) // _CHANNELS
        last = (min(done + length, count) + _CHANNELS - 1 - _ALPHA) // _CHANNELS
        if repeats:
            alpha[first:last] = stream.number(_BYTE)
        else:
            run = stream.bytes(min(length, count - done))
            alpha[first:last] = run[first * _CHANNELS + _ALPHA - done :: _CHANNELS]
        done += length
    return alpha.reshape(height, width) >= 128


class _Bits:
    """Reads numbers off a stream of bits."""

    def __init__(self, data: bytes):
        self._data = data
        self._place = 0

    def number(self, size: int) -> int:
        """The next number, of at most 32 bits."""
        first, shift = divmod(self._place, 8)
        self._place += size
        if self._place > 8 * len(self._data):
            raise ValueError("brush strokes that break off")
        window = int.from_bytes(self._data[first : first + 5].ljust(5, b"\0"), "big")
        return window >> 40 - shift - size & (1 << size) - 1

    def bytes(self, count: int) -> np.ndarray:
        """The next bytes, wherever they begin."""
        first, shift = divmod(self._place, 8)
        self._place += count * _BYTE
        if self._place > 8 * len(self._data):
            raise ValueError("brush strokes that break off")
        data = np.frombuffer(self._data, np.uint8, count + (shift > 0), first)
        if not shift:
            return data
        return (data[:-1] << shift) | (data[1:] >> 8 - shift)
