"""The command `efficientlab convert coco20i`."""

from convert import run

if __name__ == "__main__":
    run("coco20i")
