"""The command `python -m efficientlab_tf.convert fpk`."""

from efficientlab_tf import convert

if __name__ == "__main__":
    convert.run("fpk")
