"""Imports TensorFlow without its start-up remarks; entry points import this first.

TensorFlow 2.21 prints half a dozen lines about oneDNN, CPU instructions and
absent CUDA drivers, which TF_CPP_MIN_LOG_LEVEL does not reach, one of them
marked as an error on every computer without a GPU. Whatever else is written
during the import is shown. After the import TF_CPP_MIN_LOG_LEVEL=2, unless it is
set already, leaves out messages that are not errors: TensorFlow warns of whatever an
operation refuses, with all bytes of it, and raises it as an error besides.
"""

import contextlib
import functools
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_REMARKS = re.compile(
    r"All log messages before absl::InitializeLog"
    r"|port\.cc:\d+\] oneDNN custom operations"
    r"|cudart_stub\.cc:\d+\] Could not find cuda drivers"
    r"|cpu_feature_guard\.cc"
    r"|To enable the following instructions"
    r"|failed call to cuInit"
    r"|oneDNN supports DT_INT32 only on platforms"
)


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Shows at the end what was written to stderr meanwhile, but for the remarks."""
    # Written by C++ to the descriptor, so sys.stderr cannot catch it.
    with tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        shown = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines():
                if not _REMARKS.search(line):
                    print(line, file=sys.stderr)


def _import_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_remarks():
        import tensorflow as tf

        tf.config.list_physical_devices()


@functools.cache
def settle() -> None:
    """Has oneDNN say now, unseen, what it says once a process about whole numbers.

    It computes something, so TensorFlow's devices and threads must be set up before.
    """
    import tensorflow as tf

    with _without_remarks(), tf.device("CPU:0"):
        tf.transpose(tf.zeros([1, 1], tf.int32))


_import_tensorflow()
