"""Help that fits a screen: the options that are used often; ``--help-all`` shows all of them."""

from __future__ import annotations

import argparse
from collections.abc import Collection


class ShortHelpFormatter(argparse.HelpFormatter):
    """Shows of each option the first long spelling only, and its negation."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        spellings = [own for own in action.option_strings if own.startswith("--")]
        negation = [own for own in spellings if own.startswith("--no-")][:1]
        taken = self._taken(action)
        return " ".join([", ".join([spellings[0], *negation]), taken]).rstrip()

    def _taken(self, action: argparse.Action) -> str:
        """What an option takes; ``LABEL ...`` in place of ``LABEL [LABEL ...]``."""
        if action.nargs == 0:
            return ""
        return f"{action.metavar} ..." if action.nargs == "+" else self._format_args(action, "")


class AllHelp(argparse._HelpAction):
    """Option that prints the help on all options and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the help and exit."""
        print(argparse.ArgumentParser.format_help(parser), end="")
        parser.exit()


def short_help(parser: argparse.ArgumentParser, often_used: Collection[str]) -> str:
    """Text of the help on some options.

    Parameters
    ----------
    parser
        The parser.
    often_used
        Names of the options in the parsed result.

    Returns
    -------
    str
        Usage, arguments and these options in the groups of the parser, and how to see the others.
    """
    formatter = ShortHelpFormatter(parser.prog)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    formatter.add_text(parser.description)
    for group in parser._action_groups:
        shown = [
            action
            for action in group._group_actions
            if not action.option_strings or action.dest in often_used
        ]
        if shown:
            formatter.start_section(group.title)
            formatter.add_arguments(shown)
            formatter.end_section()
    formatter.add_text(f"{parser.prog} --help-all shows all options, and all their spellings.")
    return formatter.format_help()
