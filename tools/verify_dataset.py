"""The command `efficientlab verify`."""

from verify import main, run_command

if __name__ == "__main__":
    run_command(main)
