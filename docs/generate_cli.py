"""Write docs/cli.md from the command line's own help: `python docs/generate_cli.py`."""

from pathlib import Path

import click

from sidestep.cli.main import EPILOG, cli

PAGE = Path(__file__).with_name("cli.md")


def render() -> str:
    """The page as Markdown."""
    group = click.Context(cli, info_name="sidestep", **cli.context_settings)
    parts = [
        "# Command line",
        "<!-- Written by docs/generate_cli.py from the commands' help; edit that, then run it. -->",
        (cli.help or ""),
        "Results go to stdout, as a table or with `--json`; progress and notes go to stderr.",
        "```\n" + EPILOG.removeprefix("\b\n").strip() + "\n```",
        options(cli, group),
    ]
    parts += sections(cli, group, "##")
    return "\n\n".join(part for part in parts if part) + "\n"


def sections(group: click.Group, parent: click.Context, mark: str) -> list[str]:
    """A section for each command of a group; those of a group inside of it one level below."""
    parts = []
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent)
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        title = context.command_path.removeprefix("sidestep ")
        parts += [f"{mark} {title}", f"```\n{usage}\n```", text(command.help or "")]
        parts.append(options(command, context))
        if isinstance(command, click.Group):
            parts += sections(command, context, mark + "#")
    return parts


def text(help_text: str) -> str:
    """Help text with its line breaks removed inside paragraphs."""
    return "\n\n".join(" ".join(p.split()) for p in help_text.split("\n\n"))


def options(command: click.Command, context: click.Context) -> str:
    """The options as a table."""
    params = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    rows = [p.get_help_record(context) for p in params]
    lines = [f"| `{cell(o)}` | {cell(h)} |" for o, h in (r for r in rows if r is not None)]
    return "\n".join(["| option | |", "|---|---|", *lines])


def cell(value: str) -> str:
    """Text for a Markdown table."""
    return " ".join(value.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
