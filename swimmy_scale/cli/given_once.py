"""One value for each option: an option that is given twice, with different values, is refused and named."""

from __future__ import annotations

import copy
from typing import Any

import click


class GivenOnce(click.Command):
    """A command that refuses an option given twice with different values, where click would take the last."""

    def __init__(self, name: str | None, context_settings: dict[str, Any] | None = None, **options: Any) -> None:
        # Of each command itself: click keeps the help option that it is asked for first, with or without a program.
        settings = {"help_option_names": ["-h", "--help"], **(context_settings or {})}
        super().__init__(name, context_settings=settings, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of a command line, which are refused where an option has two values."""
        if not ctx.resilient_parsing:
            self._refuse_second_values(ctx, list(args))
        return super().parse_args(ctx, args)

    def _refuse_second_values(self, ctx: click.Context, args: list[str]) -> None:
        """Read the words as if every option could be repeated, so that none of its values is lost."""
        twin, single = copy.copy(self), dict[str, click.Option]()
        twin.params = []
        for parameter in self.params:
            shown = parameter
            if isinstance(parameter, click.Option) and not (parameter.multiple or parameter.count):
                shown = copy.copy(parameter)
                shown.multiple = True
                single[str(parameter.name)] = parameter
            twin.params.append(shown)
        given, _, _ = twin.make_parser(ctx).parse_args(args)
        for name, option in single.items():
            values = list(dict.fromkeys(given.get(name, ())))
            if len(values) > 1:
                raise click.UsageError(f"{option.opts[0]} takes one value, and is given as {_listed(values)}", ctx)


def _listed(values: list[object]) -> str:
    """Values as they were typed; of a flag with an opposite, what each form of it sets."""
    words = [" ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values]
    return f"{', '.join(words[:-1])} and {words[-1]}"
