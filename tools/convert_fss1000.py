"""The command `efficientlab convert fss1000`."""

from convert import run

if __name__ == "__main__":
    run("fss1000")
