"""The command `python -m efficientlab_tf.convert coco20i`."""

from efficientlab_tf import convert

if __name__ == "__main__":
    convert.run("coco20i")
