"""The command `sidestep`: finds the command that was asked for, runs it, words what went wrong.

Nothing heavy is imported here, and a command's module only when that command runs, so that
`sidestep --help` answers at once.
"""

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from sidestep.errors import SidestepError

COMMANDS = {
    "demo": "Show a model that copies its training pictures, and guidance that stops it.",
    "sample": "Sample pictures from a model with a guidance rule.",
    "bench": "Compare methods on the paper's scenarios, or on one that needs no data.",
    "audit": "Audit a model against its training pictures.",
    "index": "Index training pictures, so that copies of them can be searched for.",
    "hold-out": "Set pictures apart before training, to calibrate an audit with later.",
    "search": "Find the training pictures nearest to given ones, exactly unless told otherwise.",
    "duplicates": "Count the near-duplicates inside an index of training pictures.",
    "verify": "Check that an audit's files are as they were sealed.",
    "review": "Put what people say of an audit's exhibits into its bundle.",
    "report": "Write the HTML report of a run or an audit.",
    "redact": "Make an edition of an audit that may be shown to third parties.",
    "doctor": "Say what is installed, what is missing and the line that installs it.",
    "methods": "List the methods by kind, with a line and a source each.",
    "cite": "Print the BibTeX entries of methods.",
}

EPILOG = """\b
Exit codes:
  0    done
  1    done, and the answer is no: not ready, or a finding
  2    error: wrong usage, or a problem that the sentence on stderr explains
  3    done, and the answer is open: an audit that is inconclusive
  130  stopped with Ctrl-C; the sentence on stderr says what is kept
"""

MORE_SPACE = "; free some space or give another --out, then run again"
OTHER_PLACE = "; give a place that you may read and write"
OTHER_PATH = "; a file lies where a folder is needed: give another path"
# By name, because torch is not imported here.
FULL = ("MemoryError", "OutOfMemoryError")
LESS_MEMORY = (
    "; give a smaller --batch, or --precision float16 on a GPU, and end what else uses it. What "
    "was finished is kept: the same command goes on"
)
ADVICE = {
    errno.ENOSPC: MORE_SPACE,
    errno.EDQUOT: MORE_SPACE,
    errno.EACCES: OTHER_PLACE,
    errno.EPERM: OTHER_PLACE,
    errno.EROFS: OTHER_PLACE,
    errno.ENOTDIR: OTHER_PATH,
    errno.EEXIST: OTHER_PATH,
    errno.ENOENT: "; check the path",
}


class Stopped(Exception):
    """The user stopped a command; the message says what is kept."""


class LazyGroup(click.Group):
    """A group that imports a command's module on demand and lists commands without importing.

    `table` has a line for each command, in the order of a first session; the module of a command
    is `prefix` and its name, with _ for -.
    """

    def __init__(
        self, *args: Any, table: Mapping[str, str], prefix: str = "", **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.table, self.prefix = table, prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self.table:
            return None
        module = f"sidestep.cli.{self.prefix}{cmd_name}".replace("-", "_")
        command = import_module(module).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the arguments; a typo is answered with the nearest names."""
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.table, n=2)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"known are {', '.join(self.table)}."
            )
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the static lines above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="sidestep")
@click.option("--traceback", is_flag=True, help="Show where an error comes from, for bug reports.")
@click.pass_context
def cli(ctx: click.Context, /, **options: bool) -> None:
    """Sample diffusion models without getting training pictures back."""
    ctx.ensure_object(dict).update(options)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Problems a user can act on become one sentence on stderr. Anything else is a bug of this
    program and shows its traceback; it ends with 2 as well, because Python's own 1 would be read
    as a finding.
    """
    options: dict[str, bool] = {}
    try:
        code = cli.main(args, prog_name="sidestep", standalone_mode=False, obj=options)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except Stopped as stopped:
        return _say(f"Stopped. {stopped}", 130)
    except (click.Abort, KeyboardInterrupt):
        return _say("Stopped. Nothing had been written.", 130)
    except (BrokenPipeError, SystemExit):
        # The reader of a pipe, such as `head`, had enough; click turns that into SystemExit. Python
        # would complain once more when it flushes stdout at exit, so stdout is pointed away.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if options.get("traceback") or (error.name or "").partition(".")[0] == "sidestep":
            return _bug(error)
        return _say(
            f"Error: the package {error.name} is not installed; "
            "`sidestep doctor` prints the line that installs what is missing",
            2,
        )
    except Exception as error:
        if type(error).__name__ in FULL and not options.get("traceback"):
            return _say(f"Error: the memory is full{LESS_MEMORY}", 2)
        if options.get("traceback") or not _for_users(error):
            return _bug(error)
        return _say(" ".join([f"Error: {sentence(error)}", *getattr(error, "__notes__", [])]), 2)


def sentence(error: Exception) -> str:
    """What to tell a person about an error; the operating system's gets its file and advice."""
    if not isinstance(error, OSError) or isinstance(error, SidestepError) or error.errno is None:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    reason = (error.strerror or "the operating system gave no reason").lower()
    return f"{where}{reason}{ADVICE.get(error.errno, '')}"


def _for_users(error: Exception) -> bool:
    # Our own checks raise ValueError in our own code. One from elsewhere is a bug, and its
    # sentence means nothing to a user.
    if not isinstance(error, ValueError):
        return isinstance(error, SidestepError | OSError)
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(frame.tb_frame.f_globals["__name__"]).startswith("sidestep.")


def _bug(error: Exception) -> int:
    traceback.print_exception(error)
    if _for_users(error):  # asked for with --traceback
        return 2
    return _say(
        "Error: this is a fault of Sidestep or of a package under it; please report it with the "
        "lines above and `sidestep doctor --json`",
        2,
    )


def _say(text: str, code: int) -> int:
    click.echo(text, err=True)
    return code
