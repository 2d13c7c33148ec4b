"""The command `efficientlab convert mliis`."""

from convert import run

if __name__ == "__main__":
    run("mliis")
