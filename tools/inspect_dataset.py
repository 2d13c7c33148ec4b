"""The command `python -m efficientlab_tf.inspect_dataset`."""

from efficientlab_tf.inspect_dataset import main, run_command

if __name__ == "__main__":
    run_command(main)
