"""The command `efficientlab convert voc`."""

from convert import run

if __name__ == "__main__":
    run("voc")
