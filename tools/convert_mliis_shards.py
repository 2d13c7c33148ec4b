"""The command `python -m efficientlab_tf.convert mliis`."""

from efficientlab_tf import convert

if __name__ == "__main__":
    convert.run("mliis")
