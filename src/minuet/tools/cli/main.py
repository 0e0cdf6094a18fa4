"""The command line: `minuet VERB`. One file a noun; what is heavy is imported inside the verbs."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from minuet.errors import MinuetError
from minuet.tools.cli.doctor import doctor
from minuet.tools.cli.event import events
from minuet.tools.cli.explain import explain
from minuet.tools.cli.failed import failed
from minuet.tools.cli.new import new
from minuet.tools.cli.operate import cancel, pause, resolve, resume, retry, skip, terminate
from minuet.tools.cli.plan import plan
from minuet.tools.cli.run import run
from minuet.tools.cli.runs import runs, show, start
from minuet.tools.cli.simulate import simulate
from minuet.tools.cli.version import version
from minuet.tools.output import Exit, escaped, exit_code, print_error, print_json, remark

if TYPE_CHECKING:
    from minuet.runtime.app import App

VERBS = (
    new, run, start, runs, show, events, cancel, terminate, retry, resolve, skip, pause, resume, failed, plan,
    simulate, doctor, explain, version,
)  # fmt: skip


class _Verbs(click.Group):
    """The verbs in the order in which they are met, not in that of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not found or not running, 4 conflict.",
)
def cli() -> None:
    """Coordinate services: perform workflows, look at their runs, and repair them."""


for verb in VERBS:
    cli.add_command(verb)


def main(argv: Sequence[str] | None = None, obj: App | None = None) -> NoReturn:
    """Perform a command line and leave the process with its exit code; `obj` is the app of whoever calls.

    Nobody sees a traceback who did not ask for one, with MINUET_DEBUG=1.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = cli.main(args=words, prog_name="minuet", standalone_mode=False, obj=obj)
        sys.stdout.flush()
    except click.exceptions.Abort as error:
        remark("aborted")
        # 130 is what a shell expects of a program that was interrupted.
        code = 130 if isinstance(error.__cause__, KeyboardInterrupt) else Exit.FAILED
    except click.ClickException as error:
        error.show(sys.stderr)
        code = Exit.USAGE
    except BrokenPipeError:
        # Whoever read us has gone (`| head`); the interpreter must not complain at its end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.DONE
    except MinuetError as error:
        _debug()
        print_error(error, as_json="--json" in words)
        code = exit_code(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a person reads this
        _debug()
        _unexpected(error, as_json="--json" in words)
        code = Exit.FAILED
    sys.exit(code if isinstance(code, int) else Exit.DONE)


def _unexpected(error: Exception, *, as_json: bool) -> None:
    message = f"something went wrong inside: {type(error).__name__}: {error}"
    remedy = "Run it again with MINUET_DEBUG=1, and report what it prints"
    if as_json:
        print_json({"error": {"code": "internal", "message": message, "remedy": remedy}})
    else:
        remark(f"error: {escaped(message)}\n-> {remedy}")


def _debug() -> None:
    if os.environ.get("MINUET_DEBUG"):
        traceback.print_exc()
