"""The command `python -m efficientlab_tf.verify`."""

from efficientlab_tf.verify import main, run_command

if __name__ == "__main__":
    run_command(main)
