"""Masks of the Semantic Boundaries Dataset: MATLAB files of one struct.

GTcls is that of cls/NAME.mat, with classes; GTinst that of inst/NAME.mat, with objects.
"""

import io

import numpy as np

from efficientlab_tf.data.mask_readings import UNKNOWN
from efficientlab_tf.data.picture_files import Refused

SBD_SUFFIX = ".mat"
CLASSES, INSTANCES = "GTcls", "GTinst"


def read_sbd_mask(data: bytes, struct: str = CLASSES) -> np.ndarray:
    """Returns the field Segmentation of a struct, GTcls or GTinst.

    Returns:
      uint8 [H, W]: 0 background, 1.. classes with VOC's indices, or the numbers of
      objects. SBD has no void.

    Raises:
      Refused: not such a file, or a damaged one.
    """
    # Not above: worker processes that read other sets need no scipy.
    from scipy.io import loadmat

    try:
        contents = loadmat(io.BytesIO(data), struct_as_record=False)
        values = contents[struct][0, 0].Segmentation
    except (KeyError, IndexError, AttributeError):
        raise Refused(f"a .mat file without {struct}.Segmentation") from None
    except Exception as error:  # scipy has no common error for damaged files.
        what = str(error) or type(error).__name__
        raise Refused(f"not a .mat file that can be read ({what})") from None
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "ui" or not values.size:
        raise Refused(
            f"{struct}.Segmentation is {values.dtype} {list(values.shape)}, expected "
            "integers [height, width]"
        )
    if values.min() < 0 or values.max() > UNKNOWN:
        raise Refused(f"{struct}.Segmentation holds {values.min()} to {values.max()}")
    return values.astype(np.uint8)
