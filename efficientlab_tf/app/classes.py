"""The names of a user's classes."""

import dataclasses

from efficientlab_tf.errors import UserError

FIRST = "object"
"""What the only class is called at first."""
_LONGEST = 40


@dataclasses.dataclass
class Classes:
    """Names by number: the class 1 comes first.

    Attributes:
      most: how many there may be.
      names: of the classes 1..K.
    """

    most: int
    names: list[str] = dataclasses.field(default_factory=lambda: [FIRST])

    def add(self, name: str) -> int:
        """Names another class; returns its number.

        Raises:
          UserError: too many, or a name that is taken, empty or too long.
        """
        if len(self.names) >= self.most:
            raise UserError(
                f"class: there are {self.most} already, the most that are taken; "
                "rename one"
            )
        self.names.append(self._checked(name))
        return len(self.names)

    def rename(self, number: int, name: str) -> None:
        """Gives a class another name.

        Raises:
          UserError: no such class, or a name that is taken, empty or too long.
        """
        if not 1 <= number <= len(self.names):
            raise UserError("class: choose the one first that is to be renamed")
        self.names[number - 1] = self._checked(name)

    def reach(self, number: int) -> None:
        """Names classes by their numbers up to this one, where there are fewer."""
        for new in range(len(self.names) + 1, number + 1):
            self.names.append(f"class {new}")

    def _checked(self, name: str) -> str:
        name = " ".join(name.split())
        if not 0 < len(name) <= _LONGEST or not name.isprintable():
            raise UserError(
                f"class: expected a name of 1 to {_LONGEST} letters, received "
                f"{name[: 2 * _LONGEST]!r}; write it into the field beside"
            )
        if name in self.names:
            raise UserError(
                f"class: there is one called {name!r} already; choose another name"
            )
        return name
