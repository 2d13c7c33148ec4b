"""The command `efficientlab convert folder`."""

from convert import run

if __name__ == "__main__":
    run("folder")
