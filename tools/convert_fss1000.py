"""The command `python -m efficientlab_tf.convert fss1000`."""

from efficientlab_tf import convert

if __name__ == "__main__":
    convert.run("fss1000")
