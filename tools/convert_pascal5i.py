"""The command `python -m efficientlab_tf.convert pascal5i`."""

from efficientlab_tf import convert

if __name__ == "__main__":
    convert.run("pascal5i")
