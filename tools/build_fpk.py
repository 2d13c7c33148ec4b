"""The command `efficientlab convert fpk`."""

from convert import run

if __name__ == "__main__":
    run("fpk")
