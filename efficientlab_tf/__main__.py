"""`python -m efficientlab_tf COMMAND ...`, the same as `efficientlab COMMAND ...`."""

from efficientlab_tf.cli import main

if __name__ == "__main__":
    main()
