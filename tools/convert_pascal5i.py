"""The command `efficientlab convert pascal5i`."""

from convert import run

if __name__ == "__main__":
    run("pascal5i")
