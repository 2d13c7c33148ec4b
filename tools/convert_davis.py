"""The command `python -m efficientlab_tf.convert davis`."""

from efficientlab_tf import convert

if __name__ == "__main__":
    convert.run("davis")
