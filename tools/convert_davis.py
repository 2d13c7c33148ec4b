"""The command `efficientlab convert davis`."""

from convert import run

if __name__ == "__main__":
    run("davis")
